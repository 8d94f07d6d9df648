using System.Text.Json.Nodes;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Published chat templates with what transformers renders (Reference/README.md says how it was made).</summary>
internal static class ChatTemplateReferences
{
    private static readonly Lazy<JsonNode> Templates = new(() => JsonNode.Parse(References.Bytes("chat-templates.json"))!);

    /// <summary>The day on which the references were rendered.</summary>
    public static readonly TimeProvider Clock = new FixedClock();

    public static IReadOnlyList<JsonNode> Conversations => [.. Array("conversations")];

    public static IReadOnlyList<JsonNode> Array(string name) => [.. Templates.Value[name]!.AsArray().Select(n => n!)];

    public static JsonNode Model(string name) => Array("models").Single(m => (string)m["name"]! == name);

    public static LlamaChatTemplate Parse(JsonNode model) =>
        LlamaChatTemplate.Parse((string)model["template"]!, Tokens(model), Clock);

    public static KvChatMessage[] Messages(JsonNode messages) =>
        [.. messages.AsArray().Select(m => new KvChatMessage((string)m!["role"]!, (string)m["content"]!))];

    private static Dictionary<string, string> Tokens(JsonNode model) => model["tokens"]!.AsObject().ToDictionary(t => t.Key, t => (string)t.Value!);

    private sealed class FixedClock : TimeProvider
    {
        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => new(2025, 7, 4, 15, 5, 9, TimeSpan.Zero);
    }
}
