using Microsoft.Extensions.AI;

namespace KvCacheGpu.Serving.AI;

/// <summary>Reads messages as the texts that a chat template takes.</summary>
internal static class ChatTexts
{
    /// <summary>The messages, after the instructions, if there are any.</summary>
    /// <exception cref="NotSupportedException">A message is of another role, or holds something other than texts.</exception>
    public static List<KvChatMessage> Of(IEnumerable<ChatMessage> messages, string? instructions)
    {
        List<KvChatMessage> read = instructions is null ? [] : [new KvChatMessage("system", instructions)];
        foreach (ChatMessage message in messages)
        {
            ChatRole role = message.Role;
            if (role != ChatRole.System && role != ChatRole.User && role != ChatRole.Assistant)
            {
                throw new NotSupportedException($"messages of role \"{role}\" are not served; expected system, user or assistant");
            }

            // Usage and thoughts of earlier answers are not part of what was said.
            AIContent? other = message.Contents.FirstOrDefault(content => content is not (TextContent or UsageContent or TextReasoningContent));
            read.Add(other is null ? new KvChatMessage(role.Value, message.Text) : throw new NotSupportedException($"{other.GetType().Name} in a message is not served; expected TextContent"));
        }

        return read;
    }
}
