using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <content>A cache that saves and loads itself, and the memory that loading takes beside the pages.</content>
internal static partial class SnapshotRates
{
    private const int Chunk = 512;

    private static void MeasureCache(PageFormat format, int mebibytes, string folder)
    {
        var geometry = new KvGeometry(layers: 8, queryHeads: 8, kvHeads: 8, keyWidth: 128, pageTokens: 64);
        var layout = new PageLayout(geometry, format, format == PageFormat.T4 ? PageFormat.V4 : format);
        long bytesPerRow = (long)geometry.Layers * geometry.KvHeads * layout.Bytes;
        int tokens = (int)(((long)mebibytes << 20) / bytesPerRow) * geometry.PageTokens;
        var config = new KvCacheOptions
        {
            Device = "cpu",
            MaxTokens = tokens,
            MaxSequences = 1,
            MaxBatchTokens = Chunk,
            KeyFormat = layout.KeyFormat,
            ValueFormat = layout.ValueFormat,
        };
        using var cache = new KvCache(geometry, config);
        KvSequence sequence = Filled(cache, tokens);
        var store = new SnapshotStore(Path.Combine(folder, $"cache-{format.Name()}"));
        long bytes = cache.GetPageCounts().ByFormats.Sum(pages => pages.Bytes);
        List<long> beside = [];
        (string rates, long allocated) = Compare(
            Codes(format, 8 << 20),
            bytes,
            folder,
            store,
            () => cache.SaveAsync(store, "a", [sequence]).Result.StoredBytes,
            () =>
            {
                // What came back is what the next round saves: the pages' memory was touched before, so that it counts for nothing.
                sequence.Dispose();
                long before = ResetPeak();
                sequence = cache.LoadAsync(store, "a").Result.Sequences[0];
                beside.Add(Status("VmHWM:") - before);
            });
        long most = beside.Max();
        Print(string.Create(CultureInfo.InvariantCulture, $"| {layout} | {rates} | {allocated >> 20} | {most >> 20} | {(double)most / bytes:p1} |"));
    }

    private static KvSequence Filled(KvCache cache, int tokens)
    {
        KvSequence sequence = cache.CreateSequence();
        KvGeometry geometry = cache.Geometry;
        float[] numbers = FilledCache.Gaussian(new Random(2), Chunk * geometry.KvHeads * geometry.KeyWidth);
        for (int done = 0; done < tokens;)
        {
            int count = Math.Min(Chunk, tokens - done);
            ReadOnlySpan<float> vectors = numbers.AsSpan(0, count * geometry.KvHeads * geometry.KeyWidth);
            using KvStep step = sequence.Begin([.. Enumerable.Range(done, count)]);
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                step.Append(layer, vectors, vectors);
            }

            step.Commit();
            done += count;
        }

        return sequence;
    }

    // Linux counts the most that was resident since this was written.
    private static long ResetPeak()
    {
        GC.Collect();
        File.WriteAllText("/proc/self/clear_refs", "5");
        return Status("VmRSS:");
    }

    private static long Status(string name)
    {
        string line = File.ReadLines("/proc/self/status").First(one => one.StartsWith(name, StringComparison.Ordinal));
        return long.Parse(line.AsSpan(name.Length, line.Length - name.Length - " kB".Length).Trim(), CultureInfo.InvariantCulture) << 10;
    }
}
