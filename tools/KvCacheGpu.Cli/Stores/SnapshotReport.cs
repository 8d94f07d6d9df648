using System.Text.Json.Serialization;
namespace KvCacheGpu.Cli;

/// <summary>A snapshot in documents.</summary>
/// <param name="Name">Its name; null if it cannot be read.</param>
/// <param name="Tenant">Its tenant, or null.</param>
/// <param name="Generation">Number of times that it was saved.</param>
/// <param name="Version">Version of its format.</param>
/// <param name="Created">Time at which it was saved, ISO 8601, UTC.</param>
/// <param name="Sequences">Number of sequences.</param>
/// <param name="Tokens">Number of tokens of all sequences.</param>
/// <param name="Pages">Number of pages; shared ones count once.</param>
/// <param name="Bytes">Decoded bytes.</param>
/// <param name="StoredBytes">Bytes on the disk.</param>
/// <param name="Encrypted">True if it is encrypted.</param>
/// <param name="File">The first part of its files' names.</param>
/// <param name="Notice">Its error, or null.</param>
internal sealed record SnapshotReport(
    string? Name,
    string? Tenant,
    long Generation,
    int Version,
    DateTimeOffset? Created,
    long Sequences,
    long Tokens,
    long Pages,
    long Bytes,
    long StoredBytes,
    bool Encrypted,
    string File,
    string? Notice)
{
    /// <summary>Makes the document of a snapshot.</summary>
    public static SnapshotReport Of(SnapshotInfo info) => new(
        info.Name?.Name,
        info.Name?.Tenant,
        info.Generation,
        info.Version,
        info.Name is null ? null : info.Created,
        info.Sequences,
        info.Tokens,
        info.Pages,
        info.Bytes,
        info.StoredBytes,
        info.IsEncrypted,
        info.FileName,
        info.Notice);
}

/// <summary>The document of <c>kvcache snapshot inspect</c>.</summary>
/// <param name="Snapshot">The snapshot in the list of the store.</param>
/// <param name="ModelFingerprint">Fingerprint of the model that computed the keys and values, or null.</param>
/// <param name="Layers">Number of layers.</param>
/// <param name="KvHeads">Number of KV heads.</param>
/// <param name="KeyWidth">Width of keys.</param>
/// <param name="ValueWidth">Width of values.</param>
/// <param name="PageTokens">Tokens in a page.</param>
/// <param name="Formats">Formats of its pages, open ones first.</param>
/// <param name="SequenceList">Its sequences.</param>
internal sealed record SnapshotDetails(
    SnapshotReport Snapshot,
    string? ModelFingerprint,
    int Layers,
    int KvHeads,
    int KeyWidth,
    int ValueWidth,
    int PageTokens,
    IReadOnlyList<string> Formats,
    IReadOnlyList<SavedSequenceReport> SequenceList);

/// <summary>A saved sequence.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Tenant">Its tenant, or null.</param>
/// <param name="Tokens">Number of tokens.</param>
/// <param name="EvictedTokens">Number of dropped tokens, mean over layers and heads.</param>
/// <param name="Metadata">Metadata that the host gave it.</param>
internal sealed record SavedSequenceReport(string Id, string? Tenant, int Tokens, double EvictedTokens, IReadOnlyDictionary<string, string> Metadata);

/// <summary>The result of verifying a generation.</summary>
/// <param name="Generation">Its number.</param>
/// <param name="Current">True if it is the one that loads first.</param>
/// <param name="Whole">True if every byte was read and verified.</param>
/// <param name="Error">The error, or null.</param>
internal sealed record VerdictReport(long Generation, bool Current, bool Whole, string? Error);

/// <summary>The numbers of a store, for <c>stats</c> and <c>monitor</c>.</summary>
/// <param name="Store">Its directory.</param>
/// <param name="Snapshots">Number of snapshots that can be read.</param>
/// <param name="Unreadable">Number of snapshots that cannot be read.</param>
/// <param name="Sequences">Number of sequences of all snapshots.</param>
/// <param name="Tokens">Number of tokens of all snapshots.</param>
/// <param name="Pages">Number of pages of all snapshots.</param>
/// <param name="Bytes">Decoded bytes.</param>
/// <param name="StoredBytes">Bytes of the newest generations on the disk.</param>
/// <param name="Oldest">Time at which the oldest was saved, or null.</param>
/// <param name="Newest">Time at which the newest was saved, or null.</param>
internal sealed record StatsReport(
    string Store,
    int Snapshots,
    int Unreadable,
    long Sequences,
    long Tokens,
    long Pages,
    long Bytes,
    long StoredBytes,
    DateTimeOffset? Oldest,
    DateTimeOffset? Newest)
{
    /// <summary>The tiers that the command names; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TierReport>? Tiers { get; init; }

    /// <summary>Adds up the snapshots of a store.</summary>
    public static StatsReport Of(SnapshotStore store)
    {
        IReadOnlyList<SnapshotInfo> all = StoreChoice.Run(store.ListAsync());
        SnapshotInfo[] whole = [.. all.Where(info => info.Name is not null)];
        return new StatsReport(
            store.StorePath,
            whole.Length,
            all.Count - whole.Length,
            whole.Sum(info => info.Sequences),
            whole.Sum(info => info.Tokens),
            whole.Sum(info => info.Pages),
            whole.Sum(info => info.Bytes),
            whole.Sum(info => info.StoredBytes),
            whole.Length == 0 ? null : whole.Min(info => info.Created),
            whole.Length == 0 ? null : whole.Max(info => info.Created));
    }
}
