using System.Diagnostics;
using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Every kernel as a fraction of what this machine's memory gives. Bandwidth and kernel are measured in turns, since the machine may be
/// shared: what others take, they take from both.
/// </summary>
internal static class Roofline
{
    private const int Rounds = 9;

    public static int Run(string[] options)
    {
        bool isWriting = options is ["--writes", ..];
        options = isWriting ? options[1..] : options;
        int[] threadCounts = options is ["--threads", string list]
            ? [.. list.Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))]
            : [.. new[] { 1, Environment.ProcessorCount }.Distinct()];
        if (options.Length is not (0 or 2))
        {
            Console.Error.WriteLine("usage: roofline [--writes] [--threads 1,2]");
            return 2;
        }

        Print($"{Environment.ProcessorCount} logical cores, tier {new SimdTierName()}, .NET {Environment.Version}, {Rounds} rounds, medians");
        foreach (int threads in threadCounts)
        {
            Measure(threads, isWriting);
        }

        if (!isWriting)
        {
            Scaling(threadCounts);
            Compression(threadCounts);
        }

        return 0;
    }

    private static void Measure(int threads, bool isWriting)
    {
        using var pool = new WorkerPool(threads);
        using var memory = new Bandwidth(pool);
        (double read, double copy) = (Best(memory.Read), Best(memory.Copy));
        Print(string.Empty);
        Print($"## {threads} thread{(threads == 1 ? string.Empty : "s")}: read {read:f1} GB/s, copy (read + write) {copy:f1} GB/s");
        Print(string.Empty);
        if (!isWriting)
        {
            Attention(threads, memory);
        }

        Writes(threads, memory);
    }

    private static void Attention(int threads, Bandwidth memory)
    {
        Print("| kernel | ms | GB/s | of read | ns per token and KV head |");
        Print("|---|---|---|---|---|");
        foreach (AttendShape shape in Shapes().Concat(Compressed()))
        {
            using var cache = new FilledCache(shape, (s, b) => new SimdTier(s, b, SimdLevel.Auto, threads));
            (double seconds, double limit) = InTurns(cache.Attend, memory.Read);
            double rate = cache.Shape.BytesRead / seconds / 1e9;
            double tokens = (double)shape.Sequences * shape.Context * shape.KvHeads;
            Print($"| attend {shape} | {seconds * 1e3:f2} | {rate:f1} | {rate / limit:p0} | {seconds * 1e9 / tokens:f1} |");
        }

        Print(string.Empty);
    }

    private static void Writes(int threads, Bandwidth memory)
    {
        Print("| kernel | us | GB/s (read + write) | of copy |");
        Print("|---|---|---|---|");
        foreach (int tokens in new[] { 1, 512 })
        {
            using var cache = new AppendCache((s, b) => new SimdTier(s, b, SimdLevel.Auto, threads), tokens, PageFormat.F16);
            Row($"append {tokens} x 8 heads d128 F16", cache.Append, cache.AppendBytes, memory);
        }

        foreach ((PageFormat key, PageFormat value) in EncodeBenchmarks.Pairs)
        {
            using var cache = new AppendCache((s, b) => new SimdTier(s, b, SimdLevel.Auto, threads), 512, PageFormat.F16, key, value);
            cache.Append();
            Row($"encode 64 pages d128 F16 to {key}/{value}", cache.Encode, cache.EncodeBytes, memory);
        }
    }

    private static IEnumerable<AttendShape> Shapes() =>
        from format in new[] { PageFormat.F16, PageFormat.BF16, PageFormat.F32, PageFormat.I8 }
        from width in new[] { 128, 64 }
        from size in new[] { (1, 1024), (1, 8192), (1, 32768), (32, 1024) }
        from sharing in new[] { 1, 4, 8 }
        where format is PageFormat.F16 or PageFormat.I8 || (width == 128 && sharing == 4 && size.Item2 == 32768)
        where size.Item2 == 32768 || sharing == 4
        select new AttendShape(width, 8, sharing, size.Item1, size.Item2, format);

    /// <summary>Compressed pairs, at the shape that targets are stated for.</summary>
    private static IEnumerable<AttendShape> Compressed() =>
        from pair in new[]
        {
            (PageFormat.T4, PageFormat.V4), (PageFormat.I8, PageFormat.V4), (PageFormat.T3, PageFormat.V3), (PageFormat.T2, PageFormat.V2),
            (PageFormat.FP8, PageFormat.FP8), (PageFormat.Q8, PageFormat.Q8), (PageFormat.Q4, PageFormat.Q4),
        }
        select new AttendShape(128, 8, 4, 1, 32768, pair.Item1, pair.Item2);

    /// <summary>Time of one thread over that of more, at the shape that targets are stated for, measured in turns.</summary>
    private static void Scaling(int[] threadCounts)
    {
        foreach (PageFormat format in new[] { PageFormat.F16, PageFormat.I8 })
        {
            foreach (int threads in threadCounts.Where(t => t > 1))
            {
                var shape = new AttendShape(128, 8, 4, 1, 32768, format);
                using var one = new FilledCache(shape, (s, b) => new SimdTier(s, b, SimdLevel.Auto, 1));
                using var more = new FilledCache(shape, (s, b) => new SimdTier(s, b, SimdLevel.Auto, threads));
                var ratios = new List<double>();
                for (int round = 0; round < Rounds; round++)
                {
                    ratios.Add(Seconds(one.Attend) / Seconds(more.Attend));
                }

                Print(string.Empty);
                Print($"{shape}: {threads} threads are {Median(ratios):f2} x as fast as one");
            }
        }
    }

    /// <summary>Tokens a second of compressed pages over those of F16, at the same shape, measured in turns.</summary>
    private static void Compression(int[] threadCounts)
    {
        foreach (int threads in threadCounts)
        {
            using FilledCache plain = Filled(PageFormat.F16, PageFormat.F16, threads);
            foreach ((PageFormat key, PageFormat value) in new[] { (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T2, PageFormat.V2) })
            {
                using FilledCache compressed = Filled(key, value, threads);
                Warm(plain.Attend);
                Warm(compressed.Attend);
                List<double> ratios = [.. Enumerable.Range(0, Rounds).Select(_ => Seconds(plain.Attend) / Seconds(compressed.Attend))];
                Print(string.Empty);
                Print($"{compressed.Shape}, {threads} thread{(threads == 1 ? string.Empty : "s")}: {Median(ratios):f2} x the tokens a second of F16");
            }
        }
    }

    private static FilledCache Filled(PageFormat key, PageFormat value, int threads) =>
        new(new AttendShape(128, 8, 4, 1, 32768, key, value), (s, b) => new SimdTier(s, b, SimdLevel.Auto, threads));

    private static void Row(string name, Action kernel, long bytes, Bandwidth memory)
    {
        (double seconds, double limit) = InTurns(kernel, memory.Copy);
        double rate = bytes / seconds / 1e9;
        Print($"| {name} | {seconds * 1e6:f1} | {rate:f2} | {rate / limit:p0} |");
    }

    /// <summary>Seconds of the kernel and GB/s of the memory, the medians of alternating rounds.</summary>
    private static (double Seconds, double Limit) InTurns(Action kernel, Func<long> memory)
    {
        Warm(kernel);
        var seconds = new List<double>();
        var limits = new List<double>();
        for (int round = 0; round < Rounds; round++)
        {
            seconds.Add(Seconds(kernel));
            limits.Add(Rate(memory));
        }

        return (Median(seconds), Median(limits));
    }

    // The runtime compiles what turns out hot in the background: until then it takes twice as long.
    private static void Warm(Action kernel)
    {
        long start = Stopwatch.GetTimestamp();
        do
        {
            kernel();
        }
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < 0.2);
    }

    private static double Seconds(Action work)
    {
        // Short kernels are repeated until a round takes a few milliseconds.
        int repeats = 1;
        while (true)
        {
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < repeats; i++)
            {
                work();
            }

            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (seconds > 0.004)
            {
                return seconds / repeats;
            }

            repeats *= 4;
        }
    }

    private static double Rate(Func<long> memory)
    {
        long start = Stopwatch.GetTimestamp();
        long bytes = memory();
        return bytes / Stopwatch.GetElapsedTime(start).TotalSeconds / 1e9;
    }

    private static double Best(Func<long> memory) => Enumerable.Range(0, Rounds).Max(_ => Rate(memory));

    private static double Median(List<double> values)
    {
        values.Sort();
        return values[values.Count / 2];
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));

    private static void Print(string line) => Console.WriteLine(line);

    private readonly struct SimdTierName
    {
        public override string ToString()
        {
            using var cache = new AppendCache((s, b) => new SimdTier(s, b), 1, PageFormat.F16);
            return cache.TierName;
        }
    }
}
