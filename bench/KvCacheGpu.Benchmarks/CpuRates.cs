using System.Diagnostics;
using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Attention on the processor, row by row, beside its two limits: the rate at which memory is read and the rate of fused products, both measured between the rounds of the same row.
/// A row's time is the least of its rounds: whatever else the machine does can only add to it.
/// </summary>
internal static class CpuRates
{
    // More rounds than these are for profilers, which want to see attention alone.
    private const int LimitRounds = 25;

    private static readonly AttendShape[] _rows =
    [
        new(128, 8, 4, 1, 1024, PageFormat.F16),
        new(128, 8, 4, 1, 8192, PageFormat.F16),
        new(128, 8, 4, 1, 32768, PageFormat.F16),
        new(128, 8, 4, 32, 1024, PageFormat.F16),
        new(64, 8, 8, 1, 8192, PageFormat.F16),
        new(128, 8, 4, 1, 8192 + 512, PageFormat.F16, PageFormat.F16, QueryTokens: 512),
        new(64, 8, 8, 1, 8192 + 512, PageFormat.F16, PageFormat.F16, QueryTokens: 512),
    ];

    public static int Run(string[] options)
    {
        int threads = Environment.ProcessorCount, rounds = 9;
        string only = string.Empty;
        IReadOnlyList<FormatPair> pairs = [.. new[] { PageFormat.F16, PageFormat.BF16, PageFormat.I8, PageFormat.T4, PageFormat.Q8, PageFormat.Q4, PageFormat.FP8 }.Select(FormatPair.Of)];
        for (int i = 0; i + 1 < options.Length; i += 2)
        {
            switch (options[i])
            {
                case "--threads":
                    threads = int.Parse(options[i + 1], CultureInfo.InvariantCulture);
                    break;
                case "--rounds":
                    rounds = int.Parse(options[i + 1], CultureInfo.InvariantCulture);
                    break;
                case "--formats":
                    pairs = [.. options[i + 1].Split(',').Select(f => FormatPair.Of(Enum.Parse<PageFormat>(f, ignoreCase: true)))];
                    break;
                case "--only":
                    only = options[i + 1];
                    break;
                default:
                    Console.Error.WriteLine("usage: cpu [--threads N] [--rounds N] [--formats f16,i8] [--only TEXT]");
                    return 2;
            }
        }

        using var pool = new WorkerPool(threads);
        using var memory = new Bandwidth(pool);
        var products = new ProductRate(pool);
        Console.WriteLine($"{threads} thread{(threads == 1 ? string.Empty : "s")}, .NET {Environment.Version}, the least of {rounds} rounds");
        Console.WriteLine();
        Console.WriteLine("| attention | precision | ms | GB/s | of read | GFLOP/s | of products |");
        Console.WriteLine("|---|---|---|---|---|---|---|");
        foreach (AttendShape row in _rows)
        {
            foreach (FormatPair pair in pairs)
            {
                foreach (KvAttentionPrecision precision in Enum.GetValues<KvAttentionPrecision>())
                {
                    AttendShape shape = row with { Key = pair.Key, Value = pair.Value, Precision = precision };
                    string name = shape.QueryTokens > 1 ? $"prefill {shape.QueryTokens} at {shape}" : $"decode {shape}";
                    bool isSame = precision == KvAttentionPrecision.Fast && pair.Key is PageFormat.F16 or PageFormat.BF16 or PageFormat.FP8;
                    if (!isSame && $"{name} {precision}".Contains(only, StringComparison.OrdinalIgnoreCase))
                    {
                        Measure(name, shape, threads, rounds, memory, products);
                    }
                }
            }
        }

        return 0;
    }

    private static void Measure(string name, AttendShape shape, int threads, int rounds, Bandwidth memory, ProductRate products)
    {
        using var cache = new FilledCache(shape, (s, b) => new SimdTier(s, b, SimdLevel.Auto, threads));
        double seconds = double.MaxValue, read = 0, peak = 0;
        long start = Stopwatch.GetTimestamp();
        do
        {
            cache.Attend();
        }
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < 0.3);
        for (int round = 0; round < rounds; round++)
        {
            int repeats = Math.Max(1, (int)(0.02 / Math.Min(seconds, 0.02)));
            start = Stopwatch.GetTimestamp();
            for (int i = 0; i < repeats; i++)
            {
                cache.Attend();
            }

            seconds = Math.Min(seconds, Stopwatch.GetElapsedTime(start).TotalSeconds / repeats);
            if (round >= LimitRounds)
            {
                continue;
            }

            start = Stopwatch.GetTimestamp();
            long bytes = memory.Read();
            read = Math.Max(read, bytes / Stopwatch.GetElapsedTime(start).TotalSeconds);
            start = Stopwatch.GetTimestamp();
            double operations = products.Run();
            peak = Math.Max(peak, operations / Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        (double bandwidth, double rate) = (shape.BytesRead / seconds, shape.Operations / seconds);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {name} | {shape.Precision} | {seconds * 1e3:f3} | {bandwidth / 1e9:f1} | {bandwidth / read:p0} | {rate / 1e9:f0} | {rate / peak:p0} |"));
    }
}
