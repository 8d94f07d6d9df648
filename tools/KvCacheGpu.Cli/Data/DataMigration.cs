using System.Security.Cryptography;
using KvCacheGpu.Import;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>An old file on its way into the snapshot store. Losslessly: pages keep the file's own element type, and the result is read back and compared.</summary>
internal sealed class DataMigration(string file, string name, string directory, ImportGeometry? geometry)
{
    /// <summary>Where a snapshot says which file it came from.</summary>
    private const string SourceKey = "source_sha256";

    /// <summary>Migrates, or says what would be done.</summary>
    public MigrationReport Run(bool dryRun, IStages stages)
    {
        string digest = DigestOf(file);
        using CacheFile old = CacheFile.Open(file);
        MappedCache mapped = MappedCache.Of(old, geometry);
        MigrationReport report = new(
            file, digest, name, dryRun, false, PageFormatOf(old).Name(), mapped.Entries.Count, mapped.Count(EntryOutcome.Imported),
            EntryReport.Of(mapped, EntryOutcome.Quarantined), EntryReport.Of(mapped, EntryOutcome.Refused), mapped.Sequences.Count, mapped.Sequences.Sum(s => (long)s.Tokens));
        if (mapped.Sequences.Count == 0)
        {
            throw new UsageException(file, "an entry of keys and values", $"{report.Quarantined.Count} quarantined and {report.Refused.Count} refused; see kvcache data inspect");
        }

        if (IsDone(digest))
        {
            return report with { AlreadyDone = true };
        }

        if (!dryRun)
        {
            Write(mapped, PageFormatOf(old), digest, stages);
        }

        return report;
    }

    // The same file under the same name is done; another one there is never replaced.
    private bool IsDone(string digest)
    {
        if (!Directory.Exists(directory))
        {
            return false;
        }

        try
        {
            using OpenSnapshot there = new SnapshotStore(directory).InspectAsync(name).GetAwaiter().GetResult();
            return IsOf(there.Content, digest)
                ? true
                : throw new UsageException("--to", "a name that no other snapshot has", $"'{name}', saved {there.Info.Created:u}");
        }
        catch (KvSnapshotNotFoundException)
        {
            return false;
        }
    }

    private void Write(MappedCache mapped, PageFormat format, string digest, IStages stages)
    {
        using KvCache cache = NewCache(mapped, format);
        IProgress<int> appended = stages.Begin("converting", 100);
        CacheFileImporter importer = new(mapped.Geometry);
        KvRestored loaded = cache.LoadFileAsync(file, [importer], progress: Percent(appended)).GetAwaiter().GetResult();
        foreach (KvSequence sequence in loaded.Sequences)
        {
            sequence.Metadata = new Dictionary<string, string> { [SourceKey] = digest };
        }

        SnapshotStore store = new(directory);
        cache.SaveAsync(store, name, loaded.Sequences, Percent(stages.Begin("saving", 100))).GetAwaiter().GetResult();
        try
        {
            Verify(mapped, format, store, digest, stages.Begin("verifying", mapped.Sequences.Count));
        }
        catch
        {
            store.DeleteAsync(name).GetAwaiter().GetResult();
            throw;
        }
    }

    // What the store gives back is compared with what the file holds, element by element.
    private void Verify(MappedCache mapped, PageFormat format, SnapshotStore store, string digest, IProgress<int> progress)
    {
        using KvCache cache = NewCache(mapped, format);
        ImportGeometry shape = mapped.Geometry!;
        IReadOnlyList<KvSequence> read = cache.LoadAsync(store, name).GetAwaiter().GetResult().Sequences;
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
            throw new IOException(isEqual ? $"{file} changed while it was read; nothing was kept" : $"what was saved as '{name}' is not what {file} holds; it was taken back");
        }
    }

    private static KvCache NewCache(MappedCache mapped, PageFormat format)
    {
        ImportGeometry shape = mapped.Geometry!;
        try
        {
            return new KvCache(
                new KvGeometry(shape.Layers, shape.Heads, shape.Heads, shape.KeyWidth, shape.ValueWidth),
                new KvCacheConfig
                {
                    Device = "cpu",
                    KeyFormat = format,
                    ValueFormat = format,
                    MaxTokens = checked((int)mapped.Sequences.Sum(s => (long)((s.Tokens + 63) / 64 * 64) + 64)),
                });
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new UsageException("shape", $"head widths of {KvGeometry.MinWidth}..{KvGeometry.MaxWidth}", $"{e.ActualValue}");
        }
    }

    private static PageFormat PageFormatOf(CacheFile old)
    {
        ElementType[] types = [.. old.Tensors.Select(t => t.Tensor.Type).Where(t => t.IsFloat()).Distinct()];
        return types switch
        {
            [ElementType.Float16] => PageFormat.F16,
            [ElementType.BFloat16] => PageFormat.BF16,
            _ => PageFormat.F32,
        };
    }

    private static Direct<SnapshotProgress> Percent(IProgress<int> stage) => new(p => stage.Report(p.TotalBytes == 0 ? 100 : (int)(100 * p.Bytes / p.TotalBytes)));

    /// <summary>Whether a snapshot was made of the file with a digest.</summary>
    public static bool IsOf(SnapshotContent content, string digest) =>
        content.Sequences.All(s => s.Metadata.TryGetValue(SourceKey, out string? source) && source == digest);

    /// <summary>SHA-256 of a file.</summary>
    public static string DigestOf(string file)
    {
        using FileStream stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
