using KvCacheGpu.Serving;

namespace KvCacheGpu.Samples;

/// <summary>A conversation for models that know no roles: line by line.</summary>
internal sealed class Lines : IKvChatTemplate
{
    public string Render(IReadOnlyList<KvChatMessage> messages, bool addGenerationPrompt) =>
        string.Join('\n', messages.Select(message => message.Content)) + (addGenerationPrompt ? "\n" : string.Empty);
}
