using KvCacheGpu.Import;

namespace KvCacheGpu.Cli;

/// <summary>Joins the readers of old files to the engine: a pickle or torch file that is loaded converts by itself.</summary>
/// <param name="geometry">The model's shape; if null, what most entries of the file have.</param>
internal sealed class CacheFileImporter(ImportGeometry? geometry = null) : ISnapshotImporter
{
    /// <inheritdoc/>
    public string Name => "pickle and torch.save";

    /// <summary>What became of the entries of the file that was read last; null before that.</summary>
    public MappedCache? Found { get; private set; }

    /// <inheritdoc/>
    public bool CanRead(ReadOnlySpan<byte> firstBytes) => CacheFile.Recognises(firstBytes);

    /// <inheritdoc/>
    public ImportedCache Read(Stream file, CancellationToken cancellationToken)
    {
        Found = MappedCache.Of(CacheFile.Read(file), geometry);
        if (Found is not { Geometry: { } shape, Sequences.Count: > 0 })
        {
            throw new UsageException("file", "an entry of keys and values", $"{Found.Entries.Count} others; see kvcache data inspect");
        }

        return new ImportedCache
        {
            Layers = shape.Layers,
            KvHeads = shape.Heads,
            KeyWidth = shape.KeyWidth,
            ValueWidth = shape.ValueWidth,
            Sequences = [.. Found.Sequences.Select(s => new ImportedSequence { Id = s.Name, Tokens = s.Tokens, ReadLayer = s.Read })],
        };
    }

    /// <summary>What was restored, with a word on the entries that are not in it.</summary>
    public KvRestored Told(KvRestored restored)
    {
        (int quarantined, int refused) = (Found?.Count(EntryOutcome.Quarantined) ?? 0, Found?.Count(EntryOutcome.Refused) ?? 0);
        return quarantined + refused == 0
            ? restored
            : restored with { Notes = [.. restored.Notes, $"of {Found!.Entries.Count} entries, {quarantined} are quarantined and {refused} refused: kvcache data inspect says why"] };
    }
}
