using KvCacheGpu.Serving;

namespace KvCacheGpu.Evaluation;

/// <summary>
/// Conversations for the demo model, which was trained on plain text and has no tokens for roles: what was said follows line by line, and an answer is what comes next. Thread safety: it has no state.
/// </summary>
public sealed class DemoChatTemplate : IKvChatTemplate
{
    /// <inheritdoc/>
    public string Render(IReadOnlyList<KvChatMessage> messages, bool addGenerationPrompt)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return "<bos>" + string.Join('\n', messages.Select(message => message.Content)) + (addGenerationPrompt ? "\n" : string.Empty);
    }
}
