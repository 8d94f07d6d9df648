using KvCacheGpu.Import;

namespace KvCacheGpu.Cli;

/// <summary>The result of <c>data inspect</c>.</summary>
internal sealed record InspectReport(string Format, int Entries, IReadOnlyList<TensorReport> Tensors, IReadOnlyList<EntryReport> Quarantined);

/// <summary>A tensor, with the digest of its elements in C order, little-endian.</summary>
internal sealed record TensorReport(string Path, string Dtype, IReadOnlyList<long> Shape, string Sha256);

/// <summary>An entry that is not imported.</summary>
internal sealed record EntryReport(string Path, string Reason)
{
    /// <summary>The entries with an outcome.</summary>
    public static IReadOnlyList<EntryReport> Of(MappedCache cache, EntryOutcome outcome) =>
        [.. cache.Entries.Where(e => e.Outcome == outcome).Select(e => new EntryReport(e.Path, e.Reason ?? string.Empty))];
}

/// <summary>The result of <c>data migrate</c>, or of its dry run.</summary>
internal sealed record MigrationReport(
    string File,
    string Sha256,
    string Snapshot,
    bool DryRun,
    bool AlreadyDone,
    string? Format,
    int Entries,
    int Imported,
    IReadOnlyList<EntryReport> Quarantined,
    IReadOnlyList<EntryReport> Refused,
    int Sequences,
    long Tokens,
    long RoundedElements,
    double LargestRounding);

/// <summary>The result of <c>data export</c>.</summary>
internal sealed record ExportReport(string Snapshot, string File, int Sequences, long Tokens, string Dtype, long Bytes);
