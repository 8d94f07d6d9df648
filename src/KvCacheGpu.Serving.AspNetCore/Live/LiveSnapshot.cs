using System.Text.Json.Serialization;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>What the live page shows, of one moment.</summary>
internal sealed record LiveSnapshot(string Model, string Device, bool IsDraining, bool IsAdmin, LiveMemory Memory, LiveServing Serving, IReadOnlyList<LiveAnswer> Answers, LiveMap? Map);

/// <summary>Bytes, and what may be in use.</summary>
/// <param name="Allocated">Bytes in use.</param>
/// <param name="Budget">Bytes that may be.</param>
/// <param name="Cached">Bytes of pages that only wait to be reused; among those in use.</param>
/// <param name="Swapped">Bytes of answers in host memory that lost their places.</param>
/// <param name="Watermark">The part of the budget that plans bring pages down to.</param>
/// <param name="HasPolicy">True if there is a policy, without which nothing is dropped or moved.</param>
/// <param name="Formats">Pages by formats.</param>
/// <param name="Tiers">Lower tiers.</param>
/// <param name="AwayPages">Pages in host memory that a policy let go.</param>
internal sealed record LiveMemory(
    long Allocated, long Budget, long Cached, long Swapped, double Watermark, bool HasPolicy, IReadOnlyList<LiveFormat> Formats, IReadOnlyList<LiveTier> Tiers, long AwayPages);

/// <summary>Pages of one pair of formats.</summary>
internal sealed record LiveFormat(string Name, int Open, int Sealed, long Bytes);

/// <summary>A tier below the device.</summary>
internal sealed record LiveTier(string Name, long? Bytes, long? Limit, long Read, long Missed, long Written);

/// <summary>What the scheduler does. Times are in milliseconds.</summary>
internal sealed record LiveServing(
    double TokensPerSecond, LiveTimes FirstToken, LiveTimes NextToken, long Requests, long Ended, long Steps, long PromptTokens, long ReusedTokens, long NewTokens, long Preemptions, int Running, int Waiting);

/// <summary>Percentiles of a time, in milliseconds.</summary>
internal sealed record LiveTimes(int Count, double P50, double P95);

/// <summary>One answer.</summary>
internal sealed record LiveAnswer(long Id, int Choice, string? Tenant, string State, int PromptTokens, int NewTokens, int ComputedTokens);

/// <summary>The pages of one sequence, a row for each layer and KV head.</summary>
/// <param name="Id">The request.</param>
/// <param name="Choice">Its answer.</param>
/// <param name="Layers">Layers.</param>
/// <param name="Heads">KV heads of a layer.</param>
/// <param name="PageTokens">Tokens of a page.</param>
/// <param name="Length">Tokens of the sequence.</param>
/// <param name="FirstPage">The first page that is told: of long sequences only the newest are.</param>
/// <param name="Names">Names of formats, which <paramref name="Formats"/> count.</param>
/// <param name="Formats">For each row and page the place of its formats in <paramref name="Names"/>; -1 if it is gone.</param>
/// <param name="Places">For each row and page: 0 gone, 1 on the device, 2 in host memory.</param>
/// <param name="Mass">For each row and page the share of attention; -1 if it is not known. Null if nobody asked.</param>
internal sealed record LiveMap(
    long Id, int Choice, int Layers, int Heads, int PageTokens, int Length, int FirstPage, IReadOnlyList<string> Names, int[][] Formats, int[][] Places, double[][]? Mass);

/// <summary>The writer of pictures, made when this is compiled.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LiveSnapshot))]
internal sealed partial class LiveJson : JsonSerializerContext;
