using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// What diagnostics cost a step of decoding. The calls that are there for a listener, as one step makes them, are timed alone in a loop, and compared with a whole step in the same run: the difference of two runs of steps
/// would drown in their noise. Beside it the same steps while a listener takes every instrument, in turns with those that nobody listens to.
/// </summary>
internal static class DiagnosticsRates
{
    private const int Layers = 16;
    private const int Rounds = 30;
    private const int StepsOfRound = 20;
    private const int Calls = 2_000_000;

    public static int Run()
    {
        var geometry = new KvGeometry(layers: Layers, queryHeads: 8, kvHeads: 2, keyWidth: 64, pageTokens: 64);
        Console.WriteLine($"Decoding, {Layers} layers of 2 KV heads, d 64, F16, device cpu; {Rounds} rounds of {StepsOfRound} steps, medians; {Environment.ProcessorCount} logical cores, .NET {Environment.Version}");
        Console.WriteLine();
        Console.WriteLine("| tokens | a step, nobody listens | calls for listeners in it | part of the step | a step, all listened to | part more |");
        Console.WriteLine("|---|---|---|---|---|---|");
        foreach (int tokens in (int[])[64, 512, 4096])
        {
            Measure(geometry, tokens);
        }

        Console.WriteLine();
        MeasurePages();
        return 0;
    }

    // The one instrument that looks at each slot, inside of the pool's gate.
    private static void MeasurePages()
    {
        var geometry = new KvGeometry(layers: 16, queryHeads: 8, kvHeads: 8, keyWidth: 8, pageTokens: 8);
        using var cache = new KvCache(geometry, new KvCacheOptions { Device = "cpu", MaxTokens = 16384, MaxSequences = 1, ExactRollbackTokens = 0 });
        using KvSequence sequence = cache.CreateSequence();
        float[] rows = new float[512 * 8 * 8];
        while (sequence.Length < 16384)
        {
            using KvStep step = sequence.Begin(new int[512]);
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                step.Append(layer, rows, rows);
            }

            step.Commit();
        }

        List<double> times = [];
        for (int round = 0; round < Rounds; round++)
        {
            long start = Stopwatch.GetTimestamp();
            using (cache.State.Pool.Gate.Enter())
            {
                cache.State.Pool.CountPages(new PageTally());
            }

            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        KvPageCounts pages = cache.GetPageCounts();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"kvcache.pages: {1e3 * Median(times):f2} ms for {pages.Open + pages.Sealed} pages"));
    }

    private static void Measure(KvGeometry geometry, int tokens)
    {
        using var cache = new KvCache(geometry, new KvCacheOptions { Device = "cpu", MaxTokens = tokens + 64, MaxSequences = 1, Name = "bench" });
        using KvSequence sequence = cache.CreateSequence();
        var steps = new DecodeSteps(sequence, tokens);
        List<double>[] times = [[], []];
        for (int round = -2; round < Rounds; round++)
        {
            Take(times[0], steps, round);
            using MeterListener listener = Listen();
            Take(times[1], steps, round);
        }

        (double silent, double heard) = (Median(times[0]), Median(times[1]));
        double calls = CallsOfStep(cache.State.Counts);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {tokens} | {1e6 * silent:f1} us | {1e9 * calls:f0} ns | {calls / silent:p3} | {1e6 * heard:f1} us | {(heard / silent) - 1:p1} |"));
    }

    private static void Take(List<double> times, DecodeSteps steps, int round)
    {
        double seconds = steps.Run(StepsOfRound) / StepsOfRound;
        times.AddRange(round < 0 ? [] : [seconds]);
    }

    // Of a step, its layers, and a seal in every 64th: here in each.
    private static double CallsOfStep(CacheCounts counts)
    {
        double best = double.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long start = Stopwatch.GetTimestamp();
            for (int call = 0; call < Calls / Layers; call++)
            {
                long began = Durations.Begin(Durations.Step);
                for (int layer = 0; layer < Layers; layer++)
                {
                    Durations.End(Durations.Attend, Durations.Begin(Durations.Attend), counts.Own);
                }

                Durations.End(Durations.Seal, Durations.Begin(Durations.Seal), counts.Own);
                counts.CountStep(1);
                Durations.End(Durations.Step, began, counts.Own);
            }

            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds / (Calls / Layers));
        }

        return best;
    }

    private static MeterListener Listen()
    {
        var listener = new MeterListener
        {
            InstrumentPublished = (instrument, own) =>
            {
                if (instrument.Meter.Name == KvDiagnostics.MeterName)
                {
                    own.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<double>((_, _, _, _) => { });
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => { });
        listener.Start();
        return listener;
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    // Steps of one token, taken off again, so that all have the same length.
    private sealed class DecodeSteps
    {
        private readonly KvSequence _sequence;
        private readonly float[] _pair;
        private readonly float[] _queries;
        private readonly float[] _output;

        public DecodeSteps(KvSequence sequence, int tokens)
        {
            KvGeometry g = sequence.Cache.Geometry;
            var random = new Random(1);
            _sequence = sequence;
            _pair = FilledCache.Gaussian(random, 64 * g.KvHeads * g.KeyWidth);
            _queries = FilledCache.Gaussian(random, g.QueryHeads * g.KeyWidth);
            _output = new float[_queries.Length];
            while (sequence.Length < tokens)
            {
                using KvStep step = sequence.Begin(new int[64]);
                for (int layer = 0; layer < Layers; layer++)
                {
                    step.Append(layer, _pair, _pair);
                }

                step.Commit();
            }
        }

        public double Run(int steps)
        {
            int length = _sequence.Length;
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < steps; i++)
            {
                using KvStep step = _sequence.Begin([i]);
                for (int layer = 0; layer < Layers; layer++)
                {
                    step.Append(layer, _pair.AsSpan(0, 128), _pair.AsSpan(0, 128));
                    step.Attend(layer, _queries, _output);
                }

                step.Commit();
            }

            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            _sequence.Truncate(length);
            return seconds;
        }
    }
}
