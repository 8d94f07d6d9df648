using System.Text.Json.Serialization;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Tokens that a request took.</summary>
internal sealed record WireUsage(int PromptTokens, int CompletionTokens, int TotalTokens, PromptDetails PromptTokensDetails, CompletionDetails CompletionTokensDetails);

/// <summary>Tokens of the prompt that were not computed, since the cache had them.</summary>
internal sealed record PromptDetails(int CachedTokens);

/// <summary>Tokens of speculation.</summary>
internal sealed record CompletionDetails(int AcceptedPredictionTokens, int RejectedPredictionTokens);

/// <summary>A whole chat answer, or a piece of one.</summary>
internal sealed record ChatBody(string Id, string Object, long Created, string Model, IReadOnlyList<ChatChoice> Choices)
{
    /// <summary>Null is left out.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public WireUsage? Usage { get; init; }
}

/// <summary>One answer, or a piece of it.</summary>
internal sealed record ChatChoice(int Index, string? FinishReason, ChatLogprobs? Logprobs)
{
    /// <summary>The whole answer.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ChatText? Message { get; init; }

    /// <summary>A piece.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ChatText? Delta { get; init; }
}

/// <summary>What was said.</summary>
internal sealed record ChatText
{
    /// <summary>"assistant"; null is left out.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Role { get; init; }

    /// <summary>The text; null is left out.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Content { get; init; }
}

/// <summary>How likely the tokens of a chat answer were.</summary>
internal sealed record ChatLogprobs(IReadOnlyList<ChatToken> Content);

/// <summary>One token.</summary>
internal sealed record ChatToken(string Token, double Logprob, int[] Bytes)
{
    /// <summary>The most likely tokens in its place; null within these.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<ChatToken>? TopLogprobs { get; init; }
}

/// <summary>A whole completion, or a piece of one.</summary>
internal sealed record CompletionBody(string Id, string Object, long Created, string Model, IReadOnlyList<CompletionChoice> Choices)
{
    /// <summary>Null is left out.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public WireUsage? Usage { get; init; }
}

/// <summary>One continuation, or a piece of it.</summary>
internal sealed record CompletionChoice(int Index, string Text, string? FinishReason, CompletionLogprobs? Logprobs);

/// <summary>How likely the tokens of a completion were.</summary>
internal sealed record CompletionLogprobs(
    IReadOnlyList<string> Tokens, IReadOnlyList<double> TokenLogprobs, IReadOnlyList<IReadOnlyDictionary<string, double>>? TopLogprobs, IReadOnlyList<int> TextOffset);

/// <summary>Writers of the bodies, made when this is compiled, so that a host may be trimmed and compiled ahead of time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ErrorBody))]
[JsonSerializable(typeof(ModelList))]
[JsonSerializable(typeof(ModelEntry))]
[JsonSerializable(typeof(HealthBody))]
[JsonSerializable(typeof(ChatBody))]
[JsonSerializable(typeof(CompletionBody))]
internal sealed partial class WireJson : JsonSerializerContext;
