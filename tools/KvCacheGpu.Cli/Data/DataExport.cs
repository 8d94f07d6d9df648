using KvCacheGpu.Import;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>Exports a snapshot as a file that torch.load reads.</summary>
internal static class DataExport
{
    private const string Unfinished = ".tmp";

    /// <summary>Writes a snapshot to a new file. It never leaves half a file.</summary>
    public static ExportReport Run(string name, string directory, string file)
    {
        if (File.Exists(file))
        {
            throw new UsageException("--to", "a file that is not there yet", file);
        }

        SnapshotStore store = StoreChoice.Open(directory);
        using OpenSnapshot snapshot = StoreChoice.Run(store.InspectAsync(name));
        KvGeometry shape = snapshot.Content.Geometry;
        using KvCache cache = new(
            shape,
            new KvCacheOptions
            {
                Device = "cpu",
                KeyFormat = PageFormat.F32,
                ValueFormat = PageFormat.F32,
                MaxSequences = Math.Max(1, snapshot.Content.Sequences.Count),
                MaxTokens = checked((int)snapshot.Content.Sequences.Sum(s => (long)s.Length + shape.PageTokens)),
            });
        IReadOnlyList<KvSequence> sequences = StoreChoice.Run(cache.LoadAsync(store, name)).Sequences;
        foreach (KvSequence sequence in sequences.Where(s => s.EvictedTokens > 0))
        {
            throw new UsageException("snapshot", "sequences with all their tokens", $"'{sequence.Name}', of which a policy dropped some");
        }

        ElementType type = TypeOf(snapshot.Content.Classes);
        Write(file, new ImportGeometry(shape.Layers, shape.KvHeads, shape.KeyWidth, shape.ValueWidth), type, sequences);
        return new ExportReport(name, file, sequences.Count, sequences.Sum(s => (long)s.Length), type.Name(), new FileInfo(file).Length);
    }

    private static void Write(string file, ImportGeometry shape, ElementType type, IReadOnlyList<KvSequence> sequences)
    {
        Sweep(Path.GetFullPath(file) + ".");
        string unfinished = $"{file}.{Guid.NewGuid():n}{Unfinished}";
        try
        {
            using (FileStream stream = new(unfinished, FileMode.CreateNew))
            {
                TorchWriter.Write(stream, shape, type, [.. sequences.Select((s, i) => new TorchSequence(s.Name ?? $"{i}", s.Length, Rows(s, shape)))]);
                stream.Flush(flushToDisk: true);
            }

            File.Move(unfinished, file);
        }
        catch
        {
            File.Delete(unfinished);
            throw;
        }
    }

    // Removes the unfinished files of exports to the same name that were killed. An export that is still running holds its file.
    private static void Sweep(string start)
    {
        foreach (string left in Directory.EnumerateFiles(Path.GetDirectoryName(start)!)
            .Where(one => one.StartsWith(start, StringComparison.Ordinal) && one.EndsWith(Unfinished, StringComparison.Ordinal)
                && Guid.TryParseExact(one[start.Length..^Unfinished.Length], "n", out _)))
        {
            try
            {
                using FileStream held = new(left, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
                File.Delete(left);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // Another process holds it, or we may not delete it: it stays.
            }
        }
    }

    // A layer is decoded once and given out in pieces.
    private static TorchLayerReader Rows(KvSequence sequence, ImportGeometry shape)
    {
        int decoded = -1;
        float[] allKeys = [];
        float[] allValues = [];
        return (layer, first, tokens, keys, values) =>
        {
            int rows = sequence.Length * shape.Heads;
            if (decoded != layer)
            {
                (allKeys, allValues) = (new float[rows * shape.KeyWidth], new float[rows * shape.ValueWidth]);
                sequence.Materialize(layer, allKeys, allValues);
                decoded = layer;
            }

            allKeys.AsSpan(first * shape.Heads * shape.KeyWidth, keys.Length).CopyTo(keys);
            allValues.AsSpan(first * shape.Heads * shape.ValueWidth, values.Length).CopyTo(values);
        };
    }

    // Full precision keeps its type. Quantized values need no finer type than binary16, but may be too large for it.
    private static ElementType TypeOf(IReadOnlyList<PageLayout> classes)
    {
        PageFormat[] formats = [.. classes.SelectMany(c => new[] { c.KeyFormat, c.ValueFormat }).Distinct()];
        return formats switch
        {
            [PageFormat.F16] => ElementType.Float16,
            [PageFormat.BF16] => ElementType.BFloat16,
            _ => ElementType.Float32,
        };
    }
}
