using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>A cache on a tier attends as one on the reference tier, while pages are sealed, shared, rolled back, evicted and taken again.</summary>
public abstract class EngineConformance<TTier>
    where TTier : ITierUnderTest
{
    // Relative to an output's norm: both tiers are within half of this bound from the oracle.
    private const double Bound = 2e-5;

    private static readonly KvGeometry _geometry = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 16, pageTokens: 4);

    public static TheoryData<PageFormat, PageFormat, int> Formats => new()
    {
        { PageFormat.F16, PageFormat.F16, 0 },
        { PageFormat.I8, PageFormat.I8, 9 },
        { PageFormat.T4, PageFormat.V4, 0 },
        { PageFormat.T2, PageFormat.V2, 9 },
    };

    [Theory]
    [MemberData(nameof(Formats))]
    public void A_cache_whose_freed_pages_are_poisoned_attends_as_on_the_reference(PageFormat key, PageFormat value, int window)
    {
        KvCacheOptions config = Config(key, value);
        (config.PoisonPages, config.Policy) = (true, window == 0 ? null : new WindowPolicy(window));
        using var expected = new KvCache(_geometry, config, (shape, bytes, observer) => new ReferenceTier(shape, bytes, observer));
        using var actual = new KvCache(_geometry, config, (shape, bytes, _) => new PoisonedTier(TTier.Create(shape, bytes)));
        AreAlike(Life(expected), Life(actual));
    }

    /// <summary>Nearly all pages lie in host memory, and come to as few places as there are heads, or to more than enough: attention misses nothing, whatever is copied ahead.</summary>
    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16, 2)]
    [InlineData(PageFormat.I8, PageFormat.I8, 64)]
    [InlineData(PageFormat.T4, PageFormat.V4, 5)]
    public void A_cache_whose_pages_lie_in_host_memory_attends_as_one_that_holds_them(PageFormat key, PageFormat value, int places)
    {
        KvCacheOptions config = Config(key, value);
        config.KeyScales = KvKeyScales.None(_geometry);
        using var expected = new KvCache(_geometry, config, (shape, bytes, observer) => new ReferenceTier(shape, bytes, observer));
        config.Policy = new WindowPolicy(4);
        config.Offload = new KvOffload(1 << 20) { StagedPages = places };
        using var actual = new KvCache(_geometry, config, (shape, bytes, _) => TTier.Create(shape, bytes));
        AreAlike(Life(expected), Life(actual));
        KvOffloadCounts counts = actual.GetOffloadCounts();
        Assert.True(counts is { Offloaded: > 50, Dropped: 0, LeftOut: 0 } && counts.Fetched + counts.Staged > 100, $"{counts}");
    }

    private static KvCacheOptions Config(PageFormat key, PageFormat value) => new()
    {
        Device = "cpu",
        MaxTokens = 256,
        MaxSequences = 3,
        MaxBatchTokens = 32,
        KeyFormat = key,
        ValueFormat = value,
    };

    private static void AreAlike(List<float[]> wanted, List<float[]> got)
    {
        Assert.Equal(wanted.Count, got.Count);
        for (int i = 0; i < wanted.Count; i++)
        {
            double norm = Math.Sqrt(wanted[i].Sum(x => (double)x * x));
            double off = Math.Sqrt(wanted[i].Zip(got[i], (a, b) => (double)(a - b) * (a - b)).Sum());
            Assert.True(off <= Bound * norm, $"output {i}: off by {off} of {norm}");
        }
    }

    // The outputs of all layers of all steps.
    private static List<float[]> Life(KvCache cache)
    {
        var outputs = new List<float[]>();
        for (int round = 0; round < 3; round++)
        {
            var data = new SequenceData(_geometry, 60, seed: round);
            using KvSequence sequence = cache.CreateSequence();
            Step(sequence, data, 19 + round, outputs);
            using (KvSequence fork = sequence.Fork())
            {
                Step(fork, new SequenceData(_geometry, 60, seed: 10 + round), 7, outputs);
                Step(sequence, data, 6, outputs);
            }

            for (int i = 0; i < 5; i++)
            {
                Step(sequence, data, 1, outputs);
            }

            sequence.Truncate(sequence.Length - 2);
            Step(sequence, data, 9, outputs);
        }

        return outputs;
    }

    private static void Step(KvSequence sequence, SequenceData data, int count, List<float[]> outputs)
    {
        int first = sequence.Length;
        using KvStep step = sequence.Begin([.. Enumerable.Range(first, count)]);
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            step.Append(
                layer,
                Slice(data.Keys[layer], first, count, _geometry.KvHeads * _geometry.KeyWidth),
                Slice(data.Values[layer], first, count, _geometry.KvHeads * _geometry.ValueWidth));
            var output = new float[count * _geometry.QueryHeads * _geometry.ValueWidth];
            step.Attend(layer, Slice(data.Queries[layer], first, count, _geometry.QueryHeads * _geometry.KeyWidth), output);
            outputs.Add(output);
        }

        step.Commit();
    }

    private static float[] Slice(float[] vectors, int first, int count, int floats) => vectors[(first * floats)..((first + count) * floats)];
}
