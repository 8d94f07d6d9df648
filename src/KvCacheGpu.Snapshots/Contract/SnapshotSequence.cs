namespace KvCacheGpu;

/// <summary>One sequence of a snapshot: its tokens, and which pages each of its rows, (layer, KV head) in layer-major order, lists.</summary>
/// <remarks>
/// <code>
/// entries of row r:  RowStarts[r] .. RowStarts[r + 1] - 1, ascending by PageIndexes[entry]
/// an entry:          PageIndexes[entry]  first position / page tokens
///                    Ordinals[entry]     the page; its class is the content's PageClasses[ordinal]
/// </code>
/// Thread safety: it never changes, as long as nobody changes the memory that it refers to.
/// </remarks>
public sealed record SnapshotSequence
{
    /// <summary>Keys of <see cref="Metadata"/> that begin with this are the engine's.</summary>
    public const string EngineKeys = "kvcache.";

    /// <summary>The host's name for it; together with <see cref="Tenant"/> unique in a snapshot.</summary>
    public required string Id { get; init; }

    /// <summary>The tenant that the tokens belong to, or null.</summary>
    public string? Tenant { get; init; }

    /// <summary>The adapter (LoRA) that computed the keys and values, or null.</summary>
    public string? Adapter { get; init; }

    /// <summary>Token ids, one for each position; how many is the sequence's length.</summary>
    public required ReadOnlyMemory<int> TokenIds { get; init; }

    /// <summary>Steps committed. Scores that name a step count from it.</summary>
    public long Steps { get; init; }

    /// <summary>First page that was still written or might be; all before are sealed, whatever their class.</summary>
    public int FirstOpenPage { get; init; }

    /// <summary>The first entry of each row, and last the count of entries: rows + 1 numbers.</summary>
    public required ReadOnlyMemory<int> RowStarts { get; init; }

    /// <summary>Page index of each entry.</summary>
    public required ReadOnlyMemory<int> PageIndexes { get; init; }

    /// <summary>Page of each entry; pages that sequences share have one ordinal.</summary>
    public required ReadOnlyMemory<int> Ordinals { get; init; }

    /// <summary>Scores that kernels computed, by entry or by row. The default value is none.</summary>
    public IReadOnlyList<SnapshotScores> Scores { get; init; } = [];

    /// <summary>The host's own notes, and the engine's. The default value is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; init; } = new Dictionary<string, string>();

    /// <summary>The part of <see cref="Metadata"/> that the host set; the rest, under keys that begin with <see cref="EngineKeys"/>, is the engine's.</summary>
    public IReadOnlyDictionary<string, string> HostMetadata =>
        Metadata.Where(pair => !pair.Key.StartsWith(EngineKeys, StringComparison.Ordinal)).ToDictionary(StringComparer.Ordinal);

    /// <summary>Tokens.</summary>
    public int Length => TokenIds.Length;

    /// <summary>Entries over all rows.</summary>
    public int Entries => PageIndexes.Length;

    /// <summary>Tokens that a policy had evicted: the mean over layers and KV heads.</summary>
    /// <param name="geometry">The snapshot's.</param>
    public double EvictedTokens(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        long resident = 0;
        foreach (int page in PageIndexes.Span)
        {
            resident += Math.Min(geometry.PageTokens, Length - ((long)page * geometry.PageTokens));
        }

        return Length - ((double)resident / (RowStarts.Length - 1));
    }
}

/// <summary>A column of scores: one 32-bit number for each entry of a sequence, or for each row. The bits are kept, whatever they mean.</summary>
/// <remarks>Thread safety: it never changes, as long as nobody changes the memory that it refers to.</remarks>
/// <param name="Name">Name of the score, "mass".</param>
/// <param name="Values">As many as the sequence has entries, or rows.</param>
public sealed record SnapshotScores(string Name, ReadOnlyMemory<float> Values);
