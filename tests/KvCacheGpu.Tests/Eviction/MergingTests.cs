namespace KvCacheGpu.Tests;

/// <summary>Merged pages: which tokens they hold, and that attention over them is attention with the others masked.</summary>
public sealed class MergingTests
{
    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, valueWidth: 16, pageTokens: 4)
    {
        Rope = new KvRope { Theta = 100, Width = 6 },
    };

    [Theory]
    [InlineData("cpu", PageFormat.F32)]
    [InlineData("cpu", PageFormat.F16)]
    [InlineData("ilgpu-cpu", PageFormat.F32)]
    public void A_merged_page_holds_tokens_as_they_were_and_the_others_are_as_if_masked(string device, PageFormat format)
    {
        using KvCache cache = Tight(device, format);
        using KvSequence sequence = cache.CreateSequence();
        for (int position = 0; position < 90; position++)
        {
            CheckMaskedStep(sequence, position);
            sequence.CheckContent();
        }

        Assert.True(Merged(sequence) > 4, $"{Merged(sequence)} merged pages");
        using KvSequence fork = sequence.Fork();
        for (int position = 90; position < 130; position++)
        {
            CheckMaskedStep(fork, position);
        }

        fork.CheckContent();
        sequence.CheckContent();
        CheckMaskedStep(sequence, 90);
    }

    [Fact]
    public void Tokens_that_queries_look_for_stay_where_whole_pages_would_go()
    {
        int[] needles = [9, 18, 27, 36];
        int Left(bool merges)
        {
            KvCacheOptions config = Config("cpu", PageFormat.F32);
            (config.MergePages, config.Policy) = (merges, new WindowPolicy(0, 4));
            using KvCache cache = Budgeted(config);
            using KvSequence sequence = cache.CreateSequence();
            for (int position = 0; position < 60; position++)
            {
                float[] keys = new float[2 * 8], values = new float[2 * 16], queries = new float[4 * 8], output = new float[4 * 16];
                Array.Fill(values, 1f);
                for (int head = 0; head < 4; head++)
                {
                    // The last element does not turn: what is asked for is the same at all positions.
                    queries[(head * 8) + 7] = 8;
                    keys[(head % 2 * 8) + 7] = needles.Contains(position) ? 8 : 0;
                }

                using KvStep step = sequence.Begin([position]);
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    step.Append(layer, keys, values);
                    step.Attend(layer, queries, output);
                }

                step.Commit();
            }

            return needles.Count(n => sequence.Holds(n, n + 1));
        }

        Assert.Equal(needles.Length, Left(merges: true));
        Assert.True(Left(merges: false) < needles.Length);
    }

    [Fact]
    public void A_cut_among_a_merged_pages_tokens_takes_it_whole_and_what_grows_there_is_seen()
    {
        using KvCache cache = Tight("cpu", PageFormat.F32);
        for (int length = 88; length >= 0; length -= 7)
        {
            using KvSequence sequence = cache.CreateSequence();
            for (int position = 0; position < 89; position++)
            {
                sequence.Decode(position);
            }

            int cut = sequence.Truncate(length).Length;
            Assert.InRange(cut, length - G.PageTokens + 1, length);
            sequence.CheckContent();
            for (int position = cut; position < 100; position++)
            {
                CheckMaskedStep(sequence, position + 500);
                sequence.CheckContent();
            }
        }
    }

    [Fact]
    public void Layers_that_look_back_through_a_window_are_left_alone_and_merged_ones_refuse_it()
    {
        using KvCache cache = Tight("cpu", PageFormat.F32);
        using KvSequence sequence = cache.CreateSequence();
        float[] output = new float[4 * 16];
        for (int position = 0; position < 90; position++)
        {
            using KvStep step = sequence.Begin([position]);
            for (int layer = 0; layer < G.Layers; layer++)
            {
                step.Append(layer, TokenContent.Keys(G, layer, [position]), TokenContent.Values(G, layer, [position]));
                step.Attend(layer, TokenContent.Queries(G, layer, [position]), output, window: layer == 0 ? 20 : 0);
            }

            step.Commit();
        }

        Assert.False(sequence.State.Table.HasMerged(0));
        Assert.True(sequence.State.Table.HasMerged(1));
        using KvStep last = sequence.Begin([90]);
        last.Append(0, TokenContent.Keys(G, 0, [90]), TokenContent.Values(G, 0, [90]));
        last.Append(1, TokenContent.Keys(G, 1, [90]), TokenContent.Values(G, 1, [90]));
        last.Attend(0, TokenContent.Queries(G, 0, [90]), output, window: 20);
        KvUnsupportedException refused = Assert.Throws<KvUnsupportedException>(() => last.Attend(1, TokenContent.Queries(G, 1, [90]), output, window: 20));
        Assert.Contains(nameof(KvCacheOptions.MergePages), refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_compressed_token_is_encoded_anew_once_at_most()
    {
        using KvCache cache = Tight("cpu", PageFormat.I8);
        using KvSequence sequence = cache.CreateSequence();
        for (int position = 0; position < 90; position++)
        {
            sequence.CheckedStep(position);
            for (int row = 0; row < sequence.State.Table.Rows; row++)
            {
                for (int entry = 0; entry < sequence.State.Table.Count(row); entry++)
                {
                    int most = sequence.State.Table.IsMerged(row, entry) ? 2 : 1;
                    Assert.InRange(cache.State.Pool.EncodingsOf(sequence.State.Table.Slot(row, entry)).Key, 0, most);
                }
            }
        }

        Assert.True(Merged(sequence) > 0);
    }

    [Fact]
    public void Single_tokens_are_read_where_they_lie_and_a_snapshot_refuses_what_it_could_not_tell()
    {
        using KvCache cache = Tight("cpu", PageFormat.F32);
        using KvSequence sequence = cache.CreateSequence();
        for (int position = 0; position < 90; position++)
        {
            sequence.Decode(position);
        }

        float[] keys = new float[2 * 8], values = new float[2 * 16];
        for (int position = 0; position < 90; position++)
        {
            bool isHeld = sequence.HoldsIn(0, position) && sequence.HoldsIn(1, position);
            Assert.Equal(isHeld, sequence.TryRead(0, position, keys, values));
            Assert.True(!isHeld || keys.AsSpan().SequenceEqual(TokenContent.Keys(G, 0, [position])));
            Assert.True(!isHeld || values.AsSpan().SequenceEqual(TokenContent.Values(G, 0, [position])));
        }

        using var capture = new CacheCapture(cache.State);
        Assert.Contains("merged", Assert.Throws<KvUnsupportedException>(() => capture.Add(sequence.State)).Message, StringComparison.Ordinal);
    }

    private static KvCacheOptions Config(string device, PageFormat format)
    {
        KvCacheOptions config = TightCaches.Config("merge:h2o", new KvFormats(format, format));
        config.Device = device;
        config.FullPrecision = format.IsFullPrecision() ? format : PageFormat.F32;
        return config;
    }

    private static KvCache Tight(string device, PageFormat format) => Budgeted(Config(device, format));

    private static KvCache Budgeted(KvCacheOptions config)
    {
        KvCache Make(KvGeometry geometry, KvCacheOptions c) => c.Device == "cpu" ? TestCaches.Simd(geometry, c) : new KvCache(geometry, c);
        config.MaxSequenceTokens = 140;
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Make, G) + 28_000;
        config.Watermark = 0.45;
        return Make(G, config);
    }

    private static int Merged(KvSequence sequence) => Enumerable.Range(0, sequence.State.Table.Rows).Sum(row =>
        Enumerable.Range(0, sequence.State.Table.Count(row)).Count(entry => sequence.State.Table.IsMerged(row, entry)));

    // Against what was appended, in float64: everything but the resident positions has a logit of minus infinity.
    private static void CheckMaskedStep(KvSequence sequence, int id)
    {
        float[] output = new float[G.QueryHeads * G.ValueWidth];
        int[] resident = [.. Enumerable.Range(0, sequence.Length + 1)];
        using KvStep step = sequence.Begin([id]);
        int[] ids = [.. sequence.TokenIds.ToArray(), id];
        for (int layer = 0; layer < G.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(G, layer, [id]), TokenContent.Values(G, layer, [id]));
            float[] queries = TokenContent.Queries(G, layer, [id]);
            step.Attend(layer, queries, output);
            for (int head = 0; head < G.QueryHeads; head++)
            {
                int row = (layer * G.KvHeads) + (head / G.GroupSize);
                int[] live = [.. resident.Where(p => p == resident.Length - 1 || sequence.HoldsIn(row, p))];
                double[] expected = Attention(queries.AsSpan(head * 8, 8), layer, head / G.GroupSize, [.. live.Select(p => ids[p])]);
                for (int e = 0; e < G.ValueWidth; e++)
                {
                    Assert.Equal(expected[e], output[(head * G.ValueWidth) + e], 2e-5);
                }
            }
        }

        step.Commit();
    }

    private static double[] Attention(ReadOnlySpan<float> query, int layer, int head, int[] ids)
    {
        float[] keys = TokenContent.Keys(G, layer, ids), values = TokenContent.Values(G, layer, ids);
        double[] weights = new double[ids.Length];
        for (int t = 0; t < ids.Length; t++)
        {
            for (int e = 0; e < 8; e++)
            {
                weights[t] += (double)query[e] * keys[(((t * 2) + head) * 8) + e] / Math.Sqrt(8);
            }
        }

        double most = weights.Max();
        double sum = weights.Sum(w => Math.Exp(w - most));
        return [.. Enumerable.Range(0, 16).Select(e => weights.Select((w, t) => Math.Exp(w - most) / sum * values[(((t * 2) + head) * 16) + e]).Sum())];
    }
}
