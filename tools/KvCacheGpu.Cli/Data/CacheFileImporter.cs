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
        ImportGeometry shape = Found.Geometry ?? throw new UsageException("file", "an entry of keys and values", $"{Found.Entries.Count} others");
        return new ImportedCache
        {
            Layers = shape.Layers,
            KvHeads = shape.Heads,
            KeyWidth = shape.KeyWidth,
            ValueWidth = shape.ValueWidth,
            Sequences = [.. Found.Sequences.Select(s => new ImportedSequence { Id = s.Name, Tokens = s.Tokens, ReadLayer = s.Read })],
        };
    }
}
