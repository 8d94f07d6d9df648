using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Caches whose budget is a little above the least, and what attention over what is left should be.</summary>
internal static class TightCaches
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    /// <summary>Every policy that a cache can be made with, with sinks and windows of a few tokens.</summary>
    public static IReadOnlyList<string> Names { get; } =
        [.. KvPolicies.Names.Where(name => name != "none"), "adakv:snapkv", "adakv:dropkv", "merge:h2o", "merge:adaptive"];

    // Before a policy's name: its pages are merged.
    private const string Merge = "merge:";

    public static KvPolicy Policy(string name) => name switch
    {
        _ when name.StartsWith(Merge, StringComparison.Ordinal) => Policy(name[Merge.Length..]),
        "window" => new WindowPolicy(2, 6),
        "lru" => new LruPolicy { SinkTokens = 2, WindowTokens = 6 },
        "lfu" => new LfuPolicy { SinkTokens = 2, WindowTokens = 6 },
        "h2o" => new H2oPolicy { SinkTokens = 2, WindowTokens = 6 },
        "tova" => new TovaPolicy { SinkTokens = 2, WindowTokens = 6 },
        "snapkv" => new SnapKvPolicy { SinkTokens = 2, WindowTokens = 6 },
        "keydiff" => new KeyDiffPolicy { SinkTokens = 2, WindowTokens = 6 },
        "expected-attention" => new ExpectedAttentionPolicy { SinkTokens = 2, WindowTokens = 6 },
        "dropkv" => new DropKvPolicy { SinkTokens = 2, WindowTokens = 6 },
        "adakv" => new AdaKvPolicy(new H2oPolicy { SinkTokens = 2, WindowTokens = 6 }),
        "adakv:snapkv" => new AdaKvPolicy(new SnapKvPolicy { SinkTokens = 2, WindowTokens = 6 }),
        "adakv:dropkv" => new AdaKvPolicy(new DropKvPolicy { SinkTokens = 2, WindowTokens = 6 }),
        "random" => new RandomPolicy { SinkTokens = 2, WindowTokens = 6 },
        "adaptive" => new AdaptivePolicy { SinkTokens = 2, WindowTokens = 6 },
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, "no such policy"),
    };

    public static KvCacheOptions Config(string policy, KvFormats formats, int maxSequences = 2)
    {
        KvCacheOptions config = TestCaches.Config(formats);
        config.MaxSequences = maxSequences;
        config.Policy = Policy(policy);
        config.PlanEvery = 3;
        config.MergePages = policy.StartsWith(Merge, StringComparison.Ordinal);
        if (config.Policy is AdaptivePolicy)
        {
            config.DemotionFormats = formats.Key == PageFormat.I8
                ? [new(PageFormat.T3, PageFormat.V3), new(PageFormat.T2, PageFormat.V2)]
                : [new(PageFormat.I8, PageFormat.I8), new(PageFormat.T2, PageFormat.V2)];
        }

        return config;
    }

    /// <summary>The least budget of a configuration, as its refusal names it.</summary>
    public static long MinimumOf(KvCacheOptions config, Func<KvGeometry, KvCacheOptions, KvCache> make, KvGeometry? geometry = null)
    {
        KvCacheOptions poor = config.Copy();
        poor.MemoryBudgetBytes = 1;
        string expected = Assert.Throws<KvConfigurationException>(() => make(geometry ?? G, poor)).Expected;
        return long.Parse(expected.Split(' ')[2], CultureInfo.InvariantCulture);
    }

    /// <summary>Attention of a token over what a sequence's table lists, by the float64 oracle; what is not listed is masked.</summary>
    public static double[] Oracle(KvSequence sequence, int layer, int queryHead, int position, ReadOnlySpan<float> query)
    {
        (KvCache cache, PageTable table, KvGeometry g) = (sequence.Cache, sequence.State.Table, sequence.Cache.Geometry);
        int row = (layer * g.KvHeads) + (queryHead / g.GroupSize);
        var pages = new List<PlacedPage>();
        for (int entry = 0; entry < table.Count(row); entry++)
        {
            PageLayout layout = cache.State.Tier.Shape.Classes[table.PageClass(row, entry)];
            var words = new int[layout.Bytes / sizeof(int)];
            cache.State.Tier.Read((long)table.Slot(row, entry) * PageLayout.UnitWords, words);
            var bytes = new byte[layout.Bytes];
            Buffer.BlockCopy(words, 0, bytes, 0, bytes.Length);
            int index = table.PageIndex(row, entry);
            pages.Add(new PlacedPage(
                index, new DecodedPage(bytes, layout, g, cache.State.Options.RotationSeed, Math.Min(g.PageTokens, position + 1 - (index * g.PageTokens)))));
        }

        return AttentionOracle.Attend(query, position, pages, g).Output;
    }

    /// <summary>Steps over tokens, holds every head of the last one's attention to the oracle, and commits.</summary>
    public static void CheckedStep(this KvSequence sequence, params int[] ids)
    {
        KvGeometry g = sequence.Cache.Geometry;
        int rowWidth = g.QueryHeads * g.ValueWidth;
        var output = new float[ids.Length * rowWidth];
        int position = sequence.Length + ids.Length - 1;
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(g, layer, ids), TokenContent.Values(g, layer, ids));
            float[] queries = TokenContent.Queries(g, layer, ids);
            step.Attend(layer, queries, output);
            for (int head = 0; head < g.QueryHeads; head++)
            {
                float[] query = queries[(((ids.Length - 1) * g.QueryHeads * g.KeyWidth) + (head * g.KeyWidth))..][..g.KeyWidth];
                double[] expected = Oracle(sequence, layer, head, position, query);
                double norm = Math.Sqrt(expected.Sum(x => x * x));
                double error = Math.Sqrt(expected.Select((x, e) => Math.Pow(x - output[((ids.Length - 1) * rowWidth) + (head * g.ValueWidth) + e], 2)).Sum());
                Assert.True(error <= 1e-5 * Math.Max(norm, 0.1), $"layer {layer}, head {head}, position {position}: off by {error} of {norm}");
            }
        }

        step.Commit();
        Assert.InRange(sequence.Cache.AllocatedBytes, 1, sequence.Cache.BudgetBytes);
    }

    /// <summary>True if every row holds all tokens of the positions.</summary>
    public static bool Holds(this KvSequence sequence, int start, int end) => Enumerable.Range(0, sequence.State.Table.Rows).All(row =>
        Enumerable.Range(start, Math.Max(0, end - start)).All(t => sequence.HoldsIn(row, t)));

    /// <summary>What is resident is what was appended, to the bit, at the positions that the sequence tells. Of full precision.</summary>
    public static void CheckContent(this KvSequence sequence)
    {
        KvGeometry g = sequence.Cache.Geometry;
        for (int row = 0; row < sequence.State.Table.Rows; row++)
        {
            (int layer, int head) = (row / g.KvHeads, row % g.KvHeads);
            int[] positions = new int[sequence.ResidentTokens(layer, head)];
            Assert.Equal(positions.Length, sequence.ResidentPositions(layer, head, positions));
            Assert.Equal(positions.Distinct().Order(), positions);
            float[] keys = new float[positions.Length * g.KeyWidth], values = new float[positions.Length * g.ValueWidth];
            sequence.Materialize(layer, head, keys, values);
            int[] ids = [.. positions.Select(p => sequence.TokenIds[p])];
            Assert.Equal(OfHead(TokenContent.Keys(g, layer, ids), g.KvHeads, head, g.KeyWidth), keys);
            Assert.Equal(OfHead(TokenContent.Values(g, layer, ids), g.KvHeads, head, g.ValueWidth), values);
        }
    }

    private static float[] OfHead(float[] all, int heads, int head, int width) =>
        [.. all.Chunk(width).Where((_, i) => i % heads == head).SelectMany(x => x)];

    /// <summary>True if a row holds the token of a position.</summary>
    public static bool HoldsIn(this KvSequence sequence, int row, int position)
    {
        PageTable table = sequence.State.Table;
        int page = position / sequence.Cache.Geometry.PageTokens;
        int entry = 0;
        while (entry < table.Count(row) && table.PageIndex(row, entry) < page)
        {
            entry++;
        }

        if (entry == table.Count(row) || !table.IsMerged(row, entry))
        {
            return entry < table.Count(row) && table.PageIndex(row, entry) == page;
        }

        var positions = new int[sequence.Cache.Geometry.PageTokens];
        return positions.AsSpan(0, table.PositionsOf(row, entry, positions)).Contains(position);
    }
}
