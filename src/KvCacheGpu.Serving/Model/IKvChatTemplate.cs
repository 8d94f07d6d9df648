namespace KvCacheGpu.Serving;

/// <summary>Writes a conversation as the text that a model was trained to read.</summary>
/// <remarks>Thread safety: members may be called from any thread at once.</remarks>
public interface IKvChatTemplate
{
    /// <summary>Renders messages, with the tokens that start texts and turns written out.</summary>
    /// <param name="messages">The messages, the oldest first.</param>
    /// <param name="addGenerationPrompt">True to end with what begins an answer.</param>
    /// <exception cref="ArgumentException">The template refuses these messages, as two of one role in turn.</exception>
    string Render(IReadOnlyList<KvChatMessage> messages, bool addGenerationPrompt);
}

/// <summary>One message of a conversation. Thread safety: it never changes.</summary>
/// <param name="Role">Who says it: "system", "user", "assistant".</param>
/// <param name="Content">What is said.</param>
public sealed record KvChatMessage(string Role, string Content);
