using System.Diagnostics;
using System.Globalization;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>What scoring and planning take of decode: the same steps with no policy and with each of several, in turns, under budgets that bind.</summary>
/// <remarks>
/// A turn is as many steps as a page has tokens, so that it seals a page of every row once. Attention to as many tokens takes the same time
/// with and without a policy, so that what a policy costs is what begin and
/// commit (scores, plans, moves) take beyond those of the cache without one.
/// </remarks>
internal static class PlanningRates
{
    private const int Context = 32_768;
    private const int Rounds = 5;
    private const string Merged = ", merged";

    public static int Run(string[] options)
    {
        int layers = options is [string text] ? int.Parse(text, CultureInfo.InvariantCulture) : 8;
        string[] names = ["none", "h2o", "h2o" + Merged, "expected-attention", "adaptive"];
        var geometry = new KvGeometry(layers, queryHeads: 32, kvHeads: 8, keyWidth: 128) { Rope = new KvRope() };
        Print($"{layers} layers, 8 KV heads, GQA 4, d 128, I8, {Context / 1024}k tokens, {Environment.ProcessorCount} logical cores, .NET {Environment.Version}, {Rounds} rounds, medians");
        Decoding[] decodings = [.. names.Select(name => new Decoding(name, geometry, Context))];
        try
        {
            for (int round = -1; round < Rounds; round++)
            {
                // Round -1 warms up.
                Array.ForEach(decodings, d => d.Turn(counts: round >= 0));
            }

            Report(decodings);
        }
        finally
        {
            Array.ForEach(decodings, d => d.Dispose());
        }

        return 0;
    }

    private static void Report(Decoding[] decodings)
    {
        (double whole, double ends) = (Median(decodings[0].Steps), Median(decodings[0].Ends));
        Print("");
        Print("| policy | tokens held | dropped meanwhile | ms a step | ms of it begin and commit | scoring and planning, of decode |");
        Print("|---|---|---|---|---|---|");
        foreach (Decoding d in decodings)
        {
            double cost = (Median(d.Ends) - ends) / whole;
            Print(string.Create(CultureInfo.InvariantCulture,
                $"| {d.Name} | {d.Held} | {d.Dropped} | {Median(d.Steps):f2} | {Median(d.Ends):f3} | {(d.Name == "none" ? "" : $"{cost:p2}")} |"));
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    private static void Print(string line) => Console.WriteLine(line);

    /// <summary>One cache with a policy, and a sequence that decodes at its budget.</summary>
    private sealed class Decoding : IDisposable
    {
        private const int Chunk = 512;

        // Tokens beyond the context, so that the budget binds from the start.
        private const int Beyond = 1024;

        // Queries that come by turns, so that attention moves.
        private const int Queries = 16;

        private readonly KvGeometry _geometry;
        private readonly KvCache _cache;
        private readonly KvSequence _sequence;
        private readonly float[] _keys;
        private readonly float[] _queries;
        private readonly float[] _output;
        private readonly double _evictedBefore;
        private int _token;

        public Decoding(string name, KvGeometry geometry, int context)
        {
            (Name, _geometry) = (name, geometry);
            var random = new Random(5);
            _keys = FilledCache.Gaussian(random, 2 * Chunk * geometry.KvHeads * geometry.KeyWidth);
            _queries = FilledCache.Gaussian(random, Queries * geometry.QueryHeads * geometry.KeyWidth);
            _output = new float[geometry.QueryHeads * geometry.ValueWidth];
            KvPolicy? policy = KvPolicies.TryParse(name.Replace(Merged, "", StringComparison.Ordinal), out KvPolicy? known) ? known : throw new ArgumentException($"expected a policy, got {name}", nameof(name));
            _cache = new KvCache(geometry, Config(policy, geometry, context, name.EndsWith(Merged, StringComparison.Ordinal)));
            _sequence = _cache.CreateSequence();
            int[] ids = new int[Chunk];
            for (int done = 0; done < (policy is null ? context : context + Beyond); done += Chunk)
            {
                using KvStep step = _sequence.Begin(ids);
                for (int layer = 0; layer < geometry.Layers; layer++)
                {
                    // Chunks differ in where they begin.
                    int at = random.Next(Chunk) * geometry.KvHeads * geometry.KeyWidth;
                    ReadOnlySpan<float> keys = _keys.AsSpan(at, Chunk * geometry.KvHeads * geometry.KeyWidth);
                    step.Append(layer, keys, keys);
                }

                step.Commit();
            }

            _evictedBefore = _sequence.EvictedTokens;
        }

        public string Name { get; }

        public List<double> Steps { get; } = [];

        public List<double> Ends { get; } = [];

        public double Held => _sequence.Length - _sequence.EvictedTokens;

        public double Dropped => _sequence.EvictedTokens - _evictedBefore;

        public void Turn(bool counts)
        {
            long whole = 0, ends = 0;
            for (int i = 0; i < _geometry.PageTokens; i++, _token++)
            {
                long start = Stopwatch.GetTimestamp();
                using KvStep step = _sequence.Begin([_token]);
                ends += Stopwatch.GetTimestamp() - start;
                int rowWidth = _geometry.KvHeads * _geometry.KeyWidth;
                ReadOnlySpan<float> keys = _keys.AsSpan(_token % Chunk * rowWidth, rowWidth);
                ReadOnlySpan<float> queries = _queries.AsSpan(_token % Queries * _geometry.QueryHeads * _geometry.KeyWidth, _output.Length);
                for (int layer = 0; layer < _geometry.Layers; layer++)
                {
                    step.Append(layer, keys, keys);
                    step.Attend(layer, queries, _output);
                }

                long attended = Stopwatch.GetTimestamp();
                step.Commit();
                ends += Stopwatch.GetTimestamp() - attended;
                whole += Stopwatch.GetTimestamp() - start;
            }

            if (counts)
            {
                Steps.Add(whole * 1e3 / Stopwatch.Frequency / _geometry.PageTokens);
                Ends.Add(ends * 1e3 / Stopwatch.Frequency / _geometry.PageTokens);
            }
        }

        public void Dispose()
        {
            _sequence.Dispose();
            _cache.Dispose();
        }

        // With a policy, as much below the watermark as the context takes.
        private static KvCacheOptions Config(KvPolicy? policy, KvGeometry geometry, int context, bool merges)
        {
            var config = new KvCacheOptions
            {
                Device = "cpu",
                MaxTokens = context + (2 * Beyond),
                MaxSequences = 1,
                KeyFormat = PageFormat.I8,
                ValueFormat = PageFormat.I8,
                Policy = policy,
                MergePages = merges,
            };
            if (policy is not null)
            {
                config.DemotionFormats = policy is AdaptivePolicy ? [new KvFormats(PageFormat.T2, PageFormat.V2)] : [];
                long pages = (long)geometry.Layers * geometry.KvHeads * geometry.PagesFor(context);
                long bytes = pages * KvCache.LayoutsFor(geometry, config).Sealed[0].Bytes;
                config.MemoryBudgetBytes = KvCache.BytesFor(geometry, config).CreatedBytes + (long)(bytes / config.Watermark);
            }

            return config;
        }
    }
}
