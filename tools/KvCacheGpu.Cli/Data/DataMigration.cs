using System.Security.Cryptography;
using System.Text;
using KvCacheGpu.Import;

namespace KvCacheGpu.Cli;

/// <summary>
/// Migrates an old file into the snapshot store. Pages keep the file's own element type, except float64, which becomes float32, and the loss is
/// reported. The result is read back and compared.
/// </summary>
/// <param name="file">The file; it is only read.</param>
/// <param name="name">The snapshot to make.</param>
/// <param name="directory">The store.</param>
/// <param name="geometry">The model's shape; if null, the shape that most entries have.</param>
/// <param name="lossless">True to quarantine entries of float64 of which float32 would round an element.</param>
internal sealed class DataMigration(string file, string name, string directory, ImportGeometry? geometry, bool lossless = false)
{
    /// <summary>The metadata key under which a snapshot has the digest of its file.</summary>
    private const string SourceKey = "source_sha256";

    private const int LongestName = 64 << 10;

    // Names in a file may be any text, but a store only keeps texts that UTF-8 can encode.
    private static readonly UTF8Encoding _strict = new(false, throwOnInvalidBytes: true);

    /// <summary>Migrates the file. A dry run does everything except writing, and refuses what a migration would refuse, with the same words.</summary>
    public MigrationReport Run(bool dryRun, IStages stages)
    {
        string digest = DigestOf(file);
        using CacheFile old = CacheFile.Open(file);
        MappedCache mapped = MappedCache.Of(old, geometry, lossless);
        PageFormat format = FormatOf(mapped);
        MigrationReport report = new(
            file, digest, name, dryRun, false, format.Name(), mapped.Entries.Count, mapped.Count(EntryOutcome.Imported),
            EntryReport.Of(mapped, EntryOutcome.Quarantined), EntryReport.Of(mapped, EntryOutcome.Refused), mapped.Sequences.Count, mapped.Sequences.Sum(s => (long)s.Tokens),
            mapped.Loss.Elements, mapped.Loss.Largest);
        if (mapped.Sequences.Count == 0)
        {
            throw new UsageException(file, "an entry of keys and values", $"{report.Quarantined.Count} quarantined and {report.Refused.Count} refused; see kvcache data inspect");
        }

        (KvGeometry shape, int tokens) = Room(mapped);
        if (IsDone(digest))
        {
            return report with { AlreadyDone = true };
        }

        KvCacheOptions config = new() { Device = "cpu", KeyFormat = format, ValueFormat = format, MaxTokens = tokens, MaxSequences = mapped.Sequences.Count };
        using (KvCache cache = new(shape, config))
        {
            IReadOnlyList<KvSequence> converted = Append(cache, digest, stages);
            if (dryRun)
            {
                Compare(mapped, converted, digest, stages);
                return report;
            }

            Save(cache, converted, stages, unverified =>
            {
                using KvCache again = new(shape, config);
                Compare(mapped, StoreChoice.Run(again.LoadAsync(unverified, name)).Sequences, digest, stages);
            });
        }

        return report;
    }

    // If the snapshot was made of the same file, the migration is done already. Another snapshot of the name is never replaced.
    private bool IsDone(string digest)
    {
        SnapshotStore store = StoreChoice.Open(directory);
        Require(IsName(name), "--to", $"a text of {LongestName} bytes of UTF-8 at most", $"one of {name.Length} characters");
        Require(!File.Exists(store.StorePath), "--store", "a directory", $"the file {directory}");
        Require(Directory.Exists(Path.GetDirectoryName(store.StorePath) ?? "/"), "--store", "a directory in one that is there", directory);
        if (!Directory.Exists(directory))
        {
            return false;
        }

        try
        {
            using OpenSnapshot there = StoreChoice.Run(store.InspectAsync(name));
            return IsOf(there.Content, digest)
                ? true
                : throw new UsageException("--to", "a name that no other snapshot has", $"'{name}', saved {there.Info.Created:u}");
        }
        catch (KvSnapshotNotFoundException)
        {
            return false;
        }
    }

    private IReadOnlyList<KvSequence> Append(KvCache cache, string digest, IStages stages)
    {
        CacheFileImporter importer = new(geometry, lossless);
        IReadOnlyList<KvSequence> sequences = StoreChoice.Run(cache.LoadFileAsync(file, [importer], progress: new StoreProgress(stages, "converting"))).Sequences;
        foreach (KvSequence sequence in sequences)
        {
            sequence.Metadata = new Dictionary<string, string> { [SourceKey] = digest };
        }

        return sequences;
    }

    // The result stays beside the store until it is verified, so that a failed conversion never changes a snapshot of that name.
    private void Save(KvCache cache, IReadOnlyList<KvSequence> sequences, IStages stages, Action<SnapshotStore> verify)
    {
        UnverifiedStore beside = UnverifiedStore.Make(directory);
        string aside = beside.StorePath;
        try
        {
            SnapshotStore unverified = StoreChoice.Open(aside);
            StoreChoice.Run(cache.SaveAsync(unverified, name, sequences, new StoreProgress(stages, "saving")));
            verify(unverified);
            StoreChoice.Run(StoreChoice.Open(directory).RestoreAsync(aside, new StoreProgress(stages, "keeping")));
        }
        finally
        {
            beside.Dispose();
        }
    }

    // Compares the restored sequences with the file, element by element.
    private void Compare(MappedCache mapped, IReadOnlyList<KvSequence> read, string digest, IStages stages)
    {
        IProgress<int> progress = stages.Begin("verifying", mapped.Sequences.Count);
        ImportGeometry shape = mapped.Geometry!;
        bool isEqual = read.Count == mapped.Sequences.Count;
        for (int i = 0; isEqual && i < read.Count; i++)
        {
            MappedSequence expected = mapped.Sequences[i];
            int row = expected.Tokens * shape.Heads;
            float[][] buffers = [.. new[] { shape.KeyWidth, shape.ValueWidth, shape.KeyWidth, shape.ValueWidth }.Select(width => new float[row * width])];
            for (int layer = 0; isEqual && layer < shape.Layers; layer++)
            {
                expected.Read(layer, 0, expected.Tokens, buffers[0], buffers[1]);
                isEqual = read[i].Name == expected.Name && read[i].Materialize(layer, buffers[2], buffers[3]) == expected.Tokens
                    && buffers[0].AsSpan().SequenceEqual(buffers[2]) && buffers[1].AsSpan().SequenceEqual(buffers[3]);
            }

            progress.Report(i + 1);
        }

        if (!isEqual || DigestOf(file) != digest)
        {
            throw new IOException(isEqual ? $"{file} changed while it was read; nothing was kept" : $"what came of {file} is not what it holds; nothing was kept");
        }
    }

    // The shape, and the number of tokens if every sequence fills whole pages.
    private static (KvGeometry Shape, int Tokens) Room(MappedCache mapped)
    {
        ImportGeometry found = mapped.Geometry!;
        foreach (int width in new[] { found.KeyWidth, found.ValueWidth })
        {
            Require(width is >= KvGeometry.MinWidth and <= KvGeometry.MaxWidth, "shape", $"head widths of {KvGeometry.MinWidth}..{KvGeometry.MaxWidth}", $"{width}");
        }

        KvGeometry shape = new(found.Layers, found.Heads, found.Heads, found.KeyWidth, found.ValueWidth);
        long tokens = mapped.Sequences.Sum(s => (shape.PagesFor(s.Tokens) + 1L) * shape.PageTokens);
        Require(tokens <= int.MaxValue, "file", $"at most {int.MaxValue} tokens in whole pages", $"{tokens}");
        foreach (MappedSequence sequence in mapped.Sequences)
        {
            Require(IsName(sequence.Name), "key", $"a text of {LongestName} bytes of UTF-8 at most", $"one of {sequence.Name.Length} characters");
        }

        return (shape, (int)tokens);
    }

    private static bool IsName(string text)
    {
        try
        {
            return _strict.GetByteCount(text) <= LongestName;
        }
        catch (EncoderFallbackException)
        {
            return false;
        }
    }

    // Pages in the elements' own type change nothing. Only imported entries count, and only formats that take these widths.
    private static PageFormat FormatOf(MappedCache mapped)
    {
        PageFormat own = mapped.Sequences.SelectMany(s => s.ElementTypes).Distinct().ToArray() switch
        {
            [ElementType.Float16] => PageFormat.F16,
            [ElementType.BFloat16] => PageFormat.BF16,
            _ => PageFormat.F32,
        };
        return mapped.Geometry is { } shape && own.Takes(shape.KeyWidth) && own.Takes(shape.ValueWidth) ? own : PageFormat.F32;
    }

    private static void Require(bool holds, string what, string expected, string actual)
    {
        if (!holds)
        {
            throw new UsageException(what, expected, actual);
        }
    }

    /// <summary>True if a snapshot was made of the file with this digest.</summary>
    public static bool IsOf(SnapshotContent content, string digest) =>
        content.Sequences is { Count: > 0 } sequences && sequences.All(s => s.Metadata.TryGetValue(SourceKey, out string? source) && source == digest);

    /// <summary>SHA-256 of a file.</summary>
    /// <exception cref="UsageException">The path is a pipe or another thing that is no regular file (E002).</exception>
    public static string DigestOf(string file)
    {
        if (PathKind.FlawOf(file) is { } flaw)
        {
            throw new UsageException("old cache", "a regular file", $"{flaw}: {file}", "E002");
        }

        using FileStream stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
