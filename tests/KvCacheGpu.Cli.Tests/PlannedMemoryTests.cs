namespace KvCacheGpu.Cli.Tests;

/// <summary>What <c>kvcache plan</c> says a cache takes is what a cache takes.</summary>
public sealed class PlannedMemoryTests
{
    private const int TokensInAll = 131_072;
    private const int MiB = 1 << 20;

    private static readonly KvGeometry TwoLayers = new(layers: 2, queryHeads: 32, kvHeads: 8, keyWidth: 128);
    private static readonly KvGeometry Model = new(layers: 32, queryHeads: 32, kvHeads: 8, keyWidth: 128);

    // Keys and values of a chunk of tokens in one layer; encoders see the same numbers again and again, but never zeros.
    private static readonly float[] Keys = Numbers(1);
    private static readonly float[] Values = Numbers(2);

    [Theory]
    [InlineData("cpu", 1, 1)]
    [InlineData("cpu", 64, 127)]
    [InlineData("cpu", 256, 127)]
    [InlineData("cpu", 64, 511)]
    [InlineData("cpu", 64, 512)]
    [InlineData("cpu", 16, 1_000)]
    [InlineData("ilgpu-cpu", 2, 127)]
    [InlineData("ilgpu-cpu", 1, 150)]
    public void Bytes_of_filled_sequences_are_planned_to_the_byte(string device, int sequences, int tokens)
    {
        KvCacheOptions options = Options(device);
        using KvCache cache = new(TwoLayers, options);
        Assert.Equal(KvCache.BytesFor(TwoLayers, options).CreatedBytes, cache.AllocatedBytes);
        List<KvSequence> filled = [];
        for (int i = 0; i < sequences; i++)
        {
            filled.Add(Filled(cache, tokens));
        }

        ContextPlan plan = new(TwoLayers, options);
        KvSequenceBytes one = plan.Sequence(tokens);
        Assert.Equal(filled[0].AllocatedBytes, one.Pages);
        long host = device == "cpu" ? 0 : one.HostTables;
        Assert.Equal(plan.EmptyCacheBytes + (sequences * (one.Pages + one.Tables + one.Bookkeeping + host)), cache.AllocatedBytes);
        filled.ForEach(sequence => sequence.Dispose());
        Assert.Equal(plan.EmptyCacheBytes, cache.AllocatedBytes);
    }

    [Fact]
    public void A_sequence_that_grows_by_tokens_takes_the_planned_most_and_no_more()
    {
        KvGeometry small = new(layers: 9, queryHeads: 2, kvHeads: 2, keyWidth: 32, pageTokens: 16);
        foreach (int rollback in new[] { 0, 1, 16, 17, 40 })
        {
            KvCacheOptions options = new()
            {
                Device = "cpu",
                MaxTokens = 200,
                MaxSequences = 1,
                KeyFormat = PageFormat.T4,
                ValueFormat = PageFormat.V4,
                ExactRollbackTokens = rollback,
                LayerFormats = new Dictionary<int, KvFormats> { [4] = new(PageFormat.F16, PageFormat.F16) },
            };
            using KvCache cache = new(small, options);
            using KvSequence sequence = cache.CreateSequence();
            float[] token = Numbers(3)[..(2 * 32)];
            long most = 0;
            for (int length = 1; length <= 200; length++)
            {
                using (KvStep step = sequence.Begin([length]))
                {
                    KvPageCounts during = cache.GetPageCounts();
                    most = Math.Max(most, during.ByFormats.Sum(pages => pages.Bytes));
                    for (int layer = 0; layer < small.Layers; layer++)
                    {
                        step.Append(layer, token, token);
                    }

                    step.Commit();
                }

                KvSequenceBytes planned = KvSequenceBytes.For(small, length, options);
                Assert.Equal(sequence.AllocatedBytes, planned.Pages);
                Assert.Equal(most, planned.MostPages);
            }
        }
    }

    [Fact]
    public void The_model_takes_256_sequences_and_64_MiB_while_empty()
    {
        KvCacheOptions options = Options("cpu");
        using KvCache cache = new(TwoLayers, options);
        KvSequence[] empty = [.. Enumerable.Range(0, 256).Select(_ => cache.CreateSequence())];
        Assert.Equal(KvCache.BytesFor(TwoLayers, options).CreatedBytes, cache.AllocatedBytes);
        Array.ForEach(empty, sequence => sequence.Dispose());

        Assert.InRange(KvCache.BytesFor(Model, options).CreatedBytes + (256 * KvSequenceBytes.For(Model, 0, options).Bookkeeping), MiB, 64 * MiB);
    }

    [Theory]
    [InlineData(127, 0.70)]
    [InlineData(511, 0.45)]
    [InlineData(512, 0.45)]
    public void Short_sequences_of_the_model_take_far_less_than_dense_ones(int tokens, double most)
    {
        KvCacheOptions options = Options("cpu");
        using KvCache cache = new(TwoLayers, options);
        KvSequence[] filled = [.. Enumerable.Range(0, 256).Select(_ => Filled(cache, tokens))];
        Assert.InRange((double)cache.AllocatedBytes / TwoLayers.DenseF16Bytes(256L * tokens), 0.2, most);
        Array.ForEach(filled, sequence => sequence.Dispose());

        KvSequenceBytes one = KvSequenceBytes.For(Model, tokens, options);
        long bytes = KvCache.BytesFor(Model, options).CreatedBytes + (256 * (one.Pages + one.Tables + one.Bookkeeping));
        Assert.InRange((double)bytes / Model.DenseF16Bytes(256L * tokens), 0.2, most);
    }

    private static KvCacheOptions Options(string device) => new()
    {
        Device = device,
        MaxTokens = TokensInAll,
        MaxSequences = 256,
        KeyFormat = PageFormat.T4,
        ValueFormat = PageFormat.V4,
        EdgeLayers = 0,
    };

    private static KvSequence Filled(KvCache cache, int tokens)
    {
        KvSequence sequence = cache.CreateSequence();
        int width = cache.Geometry.KvHeads * cache.Geometry.KeyWidth;
        int most = Keys.Length / width;
        for (int done = 0; done < tokens; done += most)
        {
            int count = Math.Min(most, tokens - done);
            using KvStep step = sequence.Begin([.. Enumerable.Range(done, count)]);
            for (int layer = 0; layer < cache.Geometry.Layers; layer++)
            {
                step.Append(layer, Keys.AsSpan(0, count * width), Values.AsSpan(0, count * width));
            }

            step.Commit();
        }

        return sequence;
    }

    private static float[] Numbers(int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, 256 * 8 * 128).Select(_ => (float)((random.NextDouble() * 2) - 1))];
    }
}
