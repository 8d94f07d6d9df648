using System.Diagnostics;
using System.Globalization;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Decoding with most of a sequence in host memory, over a link that is slowed down to a stated part of a layer's time, beside a cache that holds all of it: with and without copying the next
/// layer's pages while the host computes. The rest of a layer, which the host computes, is a wait of a stated time. What is hidden is 1 - (with - held) / (without - held).
/// </summary>
internal static class OffloadRates
{
    private const int Rounds = 5;
    private const int Tokens = 4096;
    private const double LayerSeconds = 0.004;

    private static readonly double[] Loads = [0.5, 0.8, 1.5];

    public static int Run()
    {
        var geometry = new KvGeometry(layers: 8, queryHeads: 16, kvHeads: 4, keyWidth: 128, pageTokens: 64);
        Console.WriteLine($"{Tokens} tokens, 8 layers of 4 KV heads, d 128, the host takes {1e3 * LayerSeconds} ms for the rest of a layer; {Rounds} rounds, medians, ms a token; {Environment.ProcessorCount} logical cores, .NET {Environment.Version}");
        Console.WriteLine();
        Console.WriteLine("| pages | copy of a layer / its rest | all held | offloaded | fetched ahead | hidden | used of those fetched ahead |");
        Console.WriteLine("|---|---|---|---|---|---|---|");
        foreach (PageFormat format in (PageFormat[])[PageFormat.F16, PageFormat.T4])
        {
            foreach (double load in Loads)
            {
                Measure(geometry, format, load);
            }
        }

        return 0;
    }

    private static void Measure(KvGeometry geometry, PageFormat format, double load)
    {
        using KvCache held = Cache(geometry, format, offloads: false, prefetches: false);
        using KvCache without = Cache(geometry, format, offloads: true, prefetches: false);
        using KvCache with = Cache(geometry, format, offloads: true, prefetches: true);
        KvSequence[] sequences = [Filled(held), Filled(without), Filled(with)];
        long bytes = without.GetOffloadCounts().Pages * without.State.Classes.Shape.Classes[without.State.Classes.LargestSealed].Bytes / geometry.Layers;
        foreach (KvCache cache in (KvCache[])[without, with])
        {
            cache.State.Offload!.Stage.Copying = copied => Wait(copied * load * LayerSeconds / bytes);
        }

        List<double>[] times = [[], [], []];
        for (int round = -1; round < Rounds; round++)
        {
            for (int i = 0; i < sequences.Length; i++)
            {
                double seconds = Decode(sequences[i], 4) / 4;
                times[i].AddRange(round < 0 ? [] : [seconds]);
            }
        }

        (double all, double late, double ahead) = (Median(times[0]), Median(times[1]), Median(times[2]));
        KvOffloadCounts counts = with.GetOffloadCounts();
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {format.Name()} | {load:p0} | {1e3 * all:f1} | {1e3 * late:f1} | {1e3 * ahead:f1} | {1 - ((ahead - all) / (late - all)):p0} | {(double)counts.PrefetchedUsed / Math.Max(1, counts.Prefetched):p0} |"));
        Array.ForEach(sequences, sequence => sequence.Dispose());
    }

    private static KvCache Cache(KvGeometry geometry, PageFormat format, bool offloads, bool prefetches)
    {
        int pages = geometry.KvHeads * geometry.PagesFor(Tokens);
        KvCacheOptions options = new()
        {
            Device = "cpu",
            MaxTokens = Tokens + 256,
            MaxSequences = 1,
            MaxBatchTokens = 64,
            KeyFormat = format,
            ValueFormat = format == PageFormat.T4 ? PageFormat.V4 : format,
            EdgeLayers = 0,
            KeyScales = format == PageFormat.T4 ? KvKeyScales.None(geometry) : null,
            EnablePrefetch = prefetches,
            Policy = offloads ? new LruPolicy() : null,
            Offload = offloads ? new KvOffload(1L << 32) { StagedPages = 2 * pages } : null,
        };
        options.MemoryBudgetBytes = offloads ? KvCache.BytesFor(geometry, options).MinimumBytes + (2 << 20) : null;
        return new KvCache(geometry, options);
    }

    private static KvSequence Filled(KvCache cache)
    {
        KvSequence sequence = cache.CreateSequence();
        var random = new Random(1);
        while (sequence.Length < Tokens)
        {
            Step(sequence, 64, random, attends: false);
        }

        return sequence;
    }

    private static double Decode(KvSequence sequence, int tokens)
    {
        var random = new Random(sequence.Length);
        long start = Stopwatch.GetTimestamp();
        for (int token = 0; token < tokens; token++)
        {
            Step(sequence, 1, random, attends: true);
        }

        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static void Step(KvSequence sequence, int tokens, Random random, bool attends)
    {
        KvGeometry g = sequence.Cache.Geometry;
        float[] pairs = FilledCache.Gaussian(random, tokens * g.KvHeads * g.KeyWidth);
        float[] queries = FilledCache.Gaussian(random, tokens * g.QueryHeads * g.KeyWidth);
        float[] output = new float[queries.Length];
        using KvStep step = sequence.Begin(new int[tokens]);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, pairs, pairs);
            if (attends)
            {
                step.Attend(layer, queries, output);
                Wait(LayerSeconds);
            }
        }

        step.Commit();
    }

    // A device at work leaves the processor to others; waits of less than a millisecond are no sleep.
    private static void Wait(double seconds)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < seconds)
        {
            Thread.Yield();
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
