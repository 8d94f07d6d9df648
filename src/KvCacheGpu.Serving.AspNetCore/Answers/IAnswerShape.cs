using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>How answers of an endpoint look.</summary>
internal interface IAnswerShape
{
    /// <summary>What ids of answers begin with.</summary>
    string IdPrefix { get; }

    /// <summary>Writes whole answers.</summary>
    Task WriteWholeAsync(HttpContext context, AnswerHead head, IReadOnlyList<KvAnswer> answers, WireUsage usage);

    /// <summary>Writes what comes before the first piece.</summary>
    Task WriteFirstAsync(EventStream stream, AnswerHead head, int answers, CancellationToken cancellationToken);

    /// <summary>Writes a piece, if there is something to show.</summary>
    Task WritePieceAsync(EventStream stream, AnswerHead head, int index, KvPiece piece, CancellationToken cancellationToken);

    /// <summary>Writes what the request took.</summary>
    Task WriteUsageAsync(EventStream stream, AnswerHead head, WireUsage usage, CancellationToken cancellationToken);
}

/// <summary>What all pieces of an answer have in common.</summary>
/// <param name="Id">The answer's id.</param>
/// <param name="Created">When it was asked for, in seconds since 1970.</param>
internal readonly record struct AnswerHead(string Id, long Created)
{
    /// <summary>A new one.</summary>
    public static AnswerHead Create(string prefix) => new(prefix + Guid.NewGuid().ToString("N"), DateTimeOffset.UtcNow.ToUnixTimeSeconds());
}

/// <summary>Names of ends.</summary>
internal static class WireFinish
{
    /// <summary>As OpenAI names it; null for an end that is an error.</summary>
    public static string? Of(KvFinish finish) => finish switch
    {
        KvFinish.Stop => "stop",
        KvFinish.Length => "length",
        _ => null,
    };
}
