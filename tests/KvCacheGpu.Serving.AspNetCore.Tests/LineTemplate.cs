namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>Conversations for the demo model, which knows no roles: what was said, line by line.</summary>
internal sealed class LineTemplate : IKvChatTemplate
{
    public string Render(IReadOnlyList<KvChatMessage> messages, bool addGenerationPrompt) =>
        "<bos>" + string.Join('\n', messages.Select(message => message.Content)) + (addGenerationPrompt ? "\n" : string.Empty);
}
