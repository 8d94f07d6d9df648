namespace KvCacheGpu.Import;

/// <summary>
/// An old cache as sequences of keys and values of a model. No entry is left out silently: each is imported, quarantined with a reason, or
/// refused because it holds no keys and values.
/// </summary>
/// <remarks>Thread safety: it is used by one thread at a time, with its file and its sequences.</remarks>
public sealed class MappedCache
{
    internal MappedCache(ImportGeometry? geometry, IReadOnlyList<MappedEntry> entries, IReadOnlyList<MappedSequence> sequences) =>
        (Geometry, Entries, Sequences) = (geometry, entries, sequences);

    /// <summary>The model's shape as it was declared, or the shape that most entries have; null if no entry has one.</summary>
    public ImportGeometry? Geometry { get; }

    /// <summary>Every entry, in the file's order.</summary>
    public IReadOnlyList<MappedEntry> Entries { get; }

    /// <summary>The sequences, in the order in which the file begins them. Names differ.</summary>
    public IReadOnlyList<MappedSequence> Sequences { get; }

    /// <summary>The loss by rounding of the imported entries whose elements are float64.</summary>
    public RoundingLoss Loss => Entries.Where(entry => entry.Outcome == EntryOutcome.Imported).Aggregate(default(RoundingLoss), (all, entry) => all.And(entry.Loss));

    /// <summary>Number of entries with an outcome.</summary>
    public int Count(EntryOutcome outcome) => Entries.Count(entry => entry.Outcome == outcome);

    /// <summary>Maps a file. Every element of its entries is read once: an entry that holds a NaN or an infinity is quarantined.</summary>
    /// <param name="file">The file, which must stay open as long as sequences are read.</param>
    /// <param name="geometry">
    /// The model's shape; if null, the shape that most entries have, read as [heads, width], [heads, tokens, width] or [batch, heads, tokens, width].
    /// An entry that is one tensor, [2] and then one of these, is imported only if the shape is declared, and so are layers as the first of four axes.
    /// </param>
    /// <param name="lossless">True to quarantine entries of float64 of which float32 would round an element. Default: false; <see cref="Loss"/> tells the loss.</param>
    /// <exception cref="ImportException">
    /// The file has become shorter, or would be cut into more pieces than <see cref="ImportLimits.Pieces"/>, or into too many long names (E004).
    /// </exception>
    public static MappedCache Of(CacheFile file, ImportGeometry? geometry = null, bool lossless = false)
    {
        ArgumentNullException.ThrowIfNull(file);
        MappingBudget budget = new(file.MostPieces);
        List<CacheEntry> entries = CacheEntry.Of(file.Root, geometry?.ValuesAreKeys ?? false, budget);
        if (geometry is null)
        {
            entries.FindAll(e => e.IsStacked).ForEach(e => e.Quarantine("one tensor for keys and values, whose axes a declared geometry has to tell apart"));
        }

        Dictionary<ImportTensor, TensorContent> known = [];
        entries.FindAll(e => e.Outcome == EntryOutcome.Imported).ForEach(e => e.Examine(known, lossless));
        geometry ??= GeometryGuess.Of(entries);
        List<MappedSequence> sequences = [];
        if (geometry is null)
        {
            entries.ForEach(e => e.Quarantine("axes that say nothing of heads and widths"));
        }
        else
        {
            sequences = new SequenceAssembly(geometry, entries, budget).Run();
        }

        return new MappedCache(geometry, [.. entries.Select(e => new MappedEntry(e.Path, e.Outcome, e.Reason) { Loss = e.Loss })], sequences);
    }
}
