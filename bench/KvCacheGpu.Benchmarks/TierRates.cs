using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Backing blocks up, fetching them, and swapping a sequence out and in, beside a plain copy of the same bytes in the same run. Pages hold Gaussian numbers. A byte that is backed up or
/// fetched is copied twice and hashed once, so that a third of the copy's rate is the limit of host memory where the hash is as fast as the copy.
/// </summary>
internal static class TierRates
{
    private const int Rounds = 5;
    private const int Chunk = 512;

    private static readonly PageFormat[] Formats = [PageFormat.F16, PageFormat.I8, PageFormat.T4];

    public static int Run(string[] options)
    {
        if (options.Length > 2 || (options.Length > 0 && !int.TryParse(options[0], CultureInfo.InvariantCulture, out _)))
        {
            Console.Error.WriteLine("usage: tiers [MiB] [redis://HOST:PORT]");
            return 2;
        }

        int mebibytes = options.Length > 0 ? int.Parse(options[0], CultureInfo.InvariantCulture) : 256;
        string folder = Path.Combine(Path.GetTempPath(), $"kvcache-tiers-{Environment.ProcessId}");
        Directory.CreateDirectory(folder);
        try
        {
            Console.WriteLine($"{mebibytes} MiB of pages, {Environment.ProcessorCount} logical cores, .NET {Environment.Version}, {Rounds} rounds, medians; GB/s");
            Console.WriteLine();
            Console.WriteLine("| pages | tier | copy | hash | back up | fetch | of the copy | wait left, fetched ahead | swap out | swap in |");
            Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|");
            foreach (PageFormat format in Formats)
            {
                long limit = (mebibytes + 64L) << 20;
                using var host = new KvHostTier(limit);
                Measure(format, mebibytes, host);
                using var disk = new KvDiskTier(Path.Combine(folder, format.Name()), limit);
                Measure(format, mebibytes, disk);
                if (options.Length > 1)
                {
                    using var redis = new KvRedisTier(options[1], new KvRedisTierOptions { Deadline = TimeSpan.FromSeconds(5) });
                    Measure(format, mebibytes, redis);
                }
            }
        }
        finally
        {
            Directory.Delete(folder, true);
        }

        return 0;
    }

    private static void Measure(PageFormat format, int mebibytes, KvTier tier)
    {
        var geometry = new KvGeometry(layers: 8, queryHeads: 8, kvHeads: 8, keyWidth: 128, pageTokens: 64);
        PageFormat value = format == PageFormat.T4 ? PageFormat.V4 : format;
        var layout = new PageLayout(geometry, format, value);
        int blocks = (int)(((long)mebibytes << 20) / ((long)geometry.Layers * geometry.KvHeads * layout.Bytes));
        int[] ids = [.. Enumerable.Range(1, blocks * geometry.PageTokens)];
        var options = new KvCacheOptions
        {
            Device = "cpu",
            MaxTokens = ids.Length + Chunk,
            MaxSequences = 2,
            MaxBatchTokens = Chunk,
            KeyFormat = format,
            ValueFormat = value,
            EdgeLayers = 0,
            ExactRollbackTokens = 0,
            PrefixReuse = true,
            ModelFingerprint = "none",
            Tiers = [tier],
            Backup = KvBackup.WhenReleased,
            KeyScales = layout.KeyFormat.IsCentered() ? KvKeyScales.None(geometry) : null,
            RotationSeed = (ulong)Environment.ProcessId,
        };
        using var cache = new KvCache(geometry, options);
        KvSequence sequence = cache.CreateSequence();
        Fill(sequence, ids);
        long bytes = (long)blocks * KvCache.LayoutsFor(geometry, options).BlockBytes(geometry.KvHeads);
        List<double> copy = [], hash = [], fetch = [], left = [], swapOut = [], swapIn = [];
        byte[] from = new byte[bytes], to = new byte[bytes];
        sequence.Dispose();
        double backUp = Rate(bytes, () => cache.BackUpAsync().Wait());
        for (int round = 0; round <= Rounds; round++)
        {
            copy.Add(Rate(bytes, () => from.CopyTo(to, 0)));
            hash.Add(Rate(bytes, () => XxHash128.HashToUInt128(from)));
            KvSequence reader = Begin(cache, ids, tier, rate => fetch.Add(rate), bytes);
            reader.Dispose();
            cache.TryClearPrefixes();
            _ = cache.PrefetchAsync(new KvSequenceOptions(), ids).AsTask().Result;
            reader = Begin(cache, ids, tier, rate => left.Add(fetch[^1] / rate), bytes, isClear: false);

            KvSwapped? swapped = null;
            swapOut.Add(Rate(bytes, () => swapped = cache.SwapOutAsync([reader]).Result));
            cache.TryClearPrefixes();
            swapIn.Add(Rate(bytes, () => reader = cache.SwapInAsync(swapped!).Result[0]));
            reader.Dispose();
        }

        double copied = Median(copy);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {layout} | {tier.Name} | {copied:f1} | {Median(hash):f1} | {backUp:f2} | {Median(fetch):f2} | {Median(fetch) / copied:p0} | {Median(left):p1} | {Median(swapOut):f2} | {Median(swapIn):f2} |"));
    }

    private static KvSequence Begin(KvCache cache, int[] ids, KvTier tier, Action<double> note, long bytes, bool isClear = true)
    {
        if (isClear && !cache.TryClearPrefixes())
        {
            throw new InvalidOperationException("expected prefixes that nobody holds");
        }

        KvSequence reader = cache.CreateSequence();
        int known = 0;
        note(Rate(bytes, () => known = reader.Reuse([.. ids, 1])));
        return known == ids.Length ? reader : throw new InvalidOperationException($"expected {ids.Length} tokens from {tier.Name}, got {known}: {tier.Counts}");
    }

    private static void Fill(KvSequence sequence, int[] ids)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        float[] numbers = FilledCache.Gaussian(new Random(2), Chunk * geometry.KvHeads * geometry.KeyWidth);
        for (int done = 0; done < ids.Length; done += Chunk)
        {
            int[] part = ids[done..Math.Min(ids.Length, done + Chunk)];
            ReadOnlySpan<float> vectors = numbers.AsSpan(0, part.Length * geometry.KvHeads * geometry.KeyWidth);
            using KvStep step = sequence.Begin(part);
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                step.Append(layer, vectors, vectors);
            }

            step.Commit();
        }
    }

    private static double Rate(long bytes, Action act)
    {
        long start = Stopwatch.GetTimestamp();
        act();
        return bytes / 1e9 / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    // The first round warms up.
    private static double Median(List<double> values) => values.Skip(1).Order().ElementAt((values.Count - 1) / 2);
}
