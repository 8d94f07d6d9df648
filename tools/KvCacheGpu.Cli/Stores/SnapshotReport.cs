namespace KvCacheGpu.Cli;

/// <summary>A snapshot in documents.</summary>
/// <param name="Name">Its name; null where it cannot be read.</param>
/// <param name="Tenant">Whose it is, or null.</param>
/// <param name="Generation">How often it was saved.</param>
/// <param name="Version">Version of its format.</param>
/// <param name="Created">When it was saved, ISO 8601, UTC.</param>
/// <param name="Sequences">Sequences.</param>
/// <param name="Tokens">Tokens over all sequences.</param>
/// <param name="Pages">Pages, shared ones once.</param>
/// <param name="Bytes">Bytes, decoded.</param>
/// <param name="StoredBytes">Bytes on the disk.</param>
/// <param name="Encrypted">Whether it is encrypted.</param>
/// <param name="File">What its files' names begin with.</param>
/// <param name="Notice">What is wrong with it, or null.</param>
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
    /// <summary>What a store says of it.</summary>
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
/// <param name="Snapshot">What is known without its description.</param>
/// <param name="ModelFingerprint">What the keys and values are of, or null.</param>
/// <param name="Layers">Layers.</param>
/// <param name="KvHeads">KV heads.</param>
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
/// <param name="Tenant">Whose it is, or null.</param>
/// <param name="Tokens">Tokens.</param>
/// <param name="EvictedTokens">Tokens dropped, mean over layers and heads.</param>
/// <param name="Metadata">What the host said of it.</param>
internal sealed record SavedSequenceReport(string Id, string? Tenant, int Tokens, double EvictedTokens, IReadOnlyDictionary<string, string> Metadata);

/// <summary>What a generation is worth.</summary>
/// <param name="Generation">Its number.</param>
/// <param name="Current">Whether it loads first.</param>
/// <param name="Whole">Whether every byte was read and verified.</param>
/// <param name="Error">What is wrong, or null.</param>
internal sealed record VerdictReport(long Generation, bool Current, bool Whole, string? Error);

/// <summary>A store in numbers: <c>stats</c> and <c>monitor</c>.</summary>
/// <param name="Store">Its directory.</param>
/// <param name="Snapshots">Snapshots that can be read.</param>
/// <param name="Unreadable">Those that cannot.</param>
/// <param name="Sequences">Sequences over all.</param>
/// <param name="Tokens">Tokens over all.</param>
/// <param name="Pages">Pages over all.</param>
/// <param name="Bytes">Bytes, decoded.</param>
/// <param name="StoredBytes">Bytes of the newest generations on the disk.</param>
/// <param name="Oldest">When the oldest was saved, or null.</param>
/// <param name="Newest">When the newest was saved, or null.</param>
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
    /// <summary>Adds up what a store holds.</summary>
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
