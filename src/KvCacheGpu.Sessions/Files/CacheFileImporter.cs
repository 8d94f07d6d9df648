using KvCacheGpu.Import;

namespace KvCacheGpu;

/// <summary>
/// Reads old caches: pickles, and files of torch.save. <see cref="KvCacheFileExtensions.LoadFileAsync"/> has one for the cache's own shape; a host may
/// give another, which refuses to round.
/// </summary>
/// <remarks>Thread safety: it keeps nothing from one call to the next, and may be used by several threads.</remarks>
/// <param name="geometry">The model's shape, which tells axes apart that a file does not name; null takes the shape that most entries of the file have.</param>
/// <param name="lossless">True to leave out entries of float64 of which float32 cannot hold every element. The default is false: they are rounded, and <see cref="KvRestored.Notes"/> says so.</param>
public sealed class CacheFileImporter(ImportGeometry? geometry = null, bool lossless = false) : ISnapshotImporter
{
    private const int MostNamed = 3;

    /// <inheritdoc/>
    public string Name => "pickle and torch.save";

    /// <inheritdoc/>
    public bool CanRead(ReadOnlySpan<byte> firstBytes) => CacheFile.Recognises(firstBytes);

    /// <inheritdoc/>
    /// <exception cref="KvConfigurationException">No entry of the file is keys and values of the model (E003).</exception>
    public ImportedCache Read(Stream file, CancellationToken cancellationToken)
    {
        MappedCache found = MappedCache.Of(CacheFile.Read(file), geometry, lossless);
        if (found is not { Geometry: { } shape, Sequences.Count: > 0 })
        {
            string model = geometry is null ? "a model" : $"{geometry.Layers} layers of {geometry.Heads} heads, {geometry.KeyWidth} and {geometry.ValueWidth} wide";
            throw new KvConfigurationException("an old cache", $"an entry of keys and values of {model}", $"none in {found.Entries.Count}: {LeftOut(found)}");
        }

        return new ImportedCache
        {
            Layers = shape.Layers,
            KvHeads = shape.Heads,
            KeyWidth = shape.KeyWidth,
            ValueWidth = shape.ValueWidth,
            Sequences = [.. found.Sequences.Select(s => new ImportedSequence { Id = s.Name, Tokens = s.Tokens, ReadLayer = s.Read })],
            Notes = [.. Notes(found)],
        };
    }

    private static IEnumerable<string> Notes(MappedCache found)
    {
        int left = found.Entries.Count - found.Count(EntryOutcome.Imported);
        if (left > 0)
        {
            yield return $"of {found.Entries.Count} entries, {left} are left out: {LeftOut(found)}";
        }

        if (!found.Loss.IsNone)
        {
            yield return $"{found.Loss}";
        }
    }

    private static string LeftOut(MappedCache found)
    {
        MappedEntry[] left = [.. found.Entries.Where(e => e.Outcome != EntryOutcome.Imported)];
        string named = string.Join("; ", left.Take(MostNamed).Select(e => $"{(e.Path.Length == 0 ? "the file" : e.Path)}: {e.Reason}"));
        return left.Length > MostNamed ? $"{named}; and {left.Length - MostNamed} more" : named;
    }
}
