using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>The result of attention must not depend on batch, split, placement, or the type of the tensors.</summary>
public abstract partial class AttentionConformance<TTier>
{
    [Theory]
    [InlineData(PageFormat.F32, "23")]
    [InlineData(PageFormat.F32, "7 1 15")]
    [InlineData(PageFormat.F16, "5 5 5 5 3")]
    [InlineData(PageFormat.F16, "4 19")]
    [InlineData(PageFormat.BF16, "11 12")]
    public void Any_chunking_gives_what_token_by_token_gives_on_full_precision_pages(PageFormat format, string chunks)
    {
        var geometry = new KvGeometry(1, 4, 2, 64, 48, pageTokens: 5);
        var data = new SequenceData(geometry, 23, seed: 7);
        Attention single = RunInChunks(Shapes.Plain(geometry, format), data, Enumerable.Repeat(1, 23));
        Attention chunked = RunInChunks(Shapes.Plain(geometry, format), data, chunks.Split(' ').Select(int.Parse));
        for (int row = 0; row < single.LogSumExp.Length; row++)
        {
            double[] expected = [.. single.Output.Skip(row * 48).Take(48).Select(x => (double)x)];
            Expect.Near(expected, chunked.Output.AsSpan(row * 48, 48), Expect.Bound, $"row {row}");
            Assert.Equal(single.LogSumExp[row], chunked.LogSumExp[row], 1e-5f * MathF.Max(1, MathF.Abs(single.LogSumExp[row])));
        }
    }

    [Fact]
    public void A_sequence_gets_the_same_bits_alone_and_inside_a_batch()
    {
        var geometry = new KvGeometry(2, 6, 2, 80, 48, pageTokens: 16);
        KernelShape shape = Shapes.Encoded(geometry, PageFormat.F16);
        SequenceData[] data = [.. new[] { 71, 20, 55, 9 }.Select((tokens, i) => new SequenceData(geometry, tokens, 40 + i))];
        using var batched = new TierHarness(TTier.Create, shape, 400, seed: 3);
        HarnessSequence[] sequences = [.. data.Select(batched.Add)];
        (HarnessSequence, int)[] parts = [.. sequences.Select((s, i) => (s, i == 1 ? 7 : 1 + (2 * (i % 2))))];
        foreach ((HarnessSequence sequence, int tokens) in parts)
        {
            batched.Fill(sequence, sequence.Data.Tokens - tokens);
        }

        batched.Begin(true, parts);
        batched.Append(1);
        Attention all = batched.Attend(1);
        for (int i = 0; i < data.Length; i++)
        {
            int tokens = parts[i].Item2;
            using var alone = new TierHarness(TTier.Create, shape, 400, seed: 4 + i);
            HarnessSequence sequence = alone.Add(data[i]);
            alone.Fill(sequence, data[i].Tokens - tokens);
            alone.Begin((sequence, tokens));
            alone.Append(1);
            Attention one = alone.Attend(1);
            int first = batched.Ragged[i].FirstToken * geometry.QueryHeads;
            Assert.Equal(one.Output, all.Output.Skip(first * 48).Take(one.Output.Length));
            Assert.Equal(one.LogSumExp, all.LogSumExp.Skip(first).Take(one.LogSumExp.Length));
            for (int head = 0; head < geometry.KvHeads; head++)
            {
                Assert.Equal(alone.ReadStatistics(sequence, 1, head), batched.ReadStatistics(sequences[i], 1, head));
            }
        }
    }

    [Fact]
    public void Attending_again_gives_the_same_bits_and_other_layers_keep_their_statistics()
    {
        var geometry = new KvGeometry(2, 4, 2, 48, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.BF16), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 18, 5));
        harness.Fill(sequence, 16);
        harness.Begin((sequence, 2));
        harness.Append(0);
        harness.Append(1);
        Attention first = harness.Attend(0);
        PageStatistic[][] statistics = harness.ReadStatistics(sequence, 0, 1);
        harness.Attend(1);
        Assert.Equal(statistics, harness.ReadStatistics(sequence, 0, 1));
        Assert.Equal(first.Output, harness.Attend(0).Output);
    }

    [Fact]
    public void Queries_of_any_type_and_stride_give_what_dense_singles_give()
    {
        var geometry = new KvGeometry(1, 4, 2, 64, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F32), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 14, 6));
        harness.Fill(sequence, 11);
        harness.Begin((sequence, 3));
        harness.Append(0);
        float[] queries = [.. harness.Queries(0).Select(x => (float)BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits((float)(Half)x) & -65536))];
        float[] expected = harness.Attend(0, queries).Output;
        Assert.Equal(expected, harness.Attend(0, KvTensor.FromHost(Strided.Spread(queries, 4, 64, 300, 70), 300, 70)).Output);
        Assert.Equal(expected, harness.Attend(0, KvTensor.FromHost(Strided.Halves(queries))).Output);
        Assert.Equal(expected, harness.Attend(0, KvTensor.FromHostBFloat16(Strided.BFloat16s(queries))).Output);
    }

    [Fact]
    public void Working_memory_does_not_grow_with_the_length()
    {
        var geometry = new KvGeometry(1, 2, 1, 64, pageTokens: 16);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 100);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 600, 9));
        long before = harness.ScratchBytes;
        harness.Fill(sequence, 599);
        harness.Begin((sequence, 1));
        harness.Append(0);
        Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
        Assert.Equal(before, harness.ScratchBytes);
    }

    [Fact]
    public async Task Batches_of_different_sequences_give_the_same_bits_from_two_threads_at_once()
    {
        var geometry = new KvGeometry(1, 4, 2, 64, 48, pageTokens: 5);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F16), 200);
        HarnessSequence[] sequences = [.. new[] { 43, 61 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 30 + i)))];
        Array.ForEach(sequences, s => harness.Fill(s, s.Data.Tokens));
        using KernelBatch one = harness.Tier.CreateBatch(1, 2);
        using KernelBatch two = harness.Tier.CreateBatch(1, 2);
        float[][] expected = [AttendLast(one, sequences[0]), AttendLast(two, sequences[1])];
        var threads = new[] { (one, sequences[0], expected[0]), (two, sequences[1], expected[1]) }
            .Select(work => Task.Factory.StartNew(
                () => Enumerable.Range(0, 10).All(_ => AttendLast(work.Item1, work.Item2).SequenceEqual(work.Item3)), TaskCreationOptions.LongRunning))
            .ToArray();
        Assert.All(await Task.WhenAll(threads), Assert.True);
    }

    // Attends the last two tokens of a sequence again.
    private static float[] AttendLast(KernelBatch batch, HarnessSequence sequence)
    {
        var output = new float[2 * 4 * 48];
        batch.Begin([new RaggedSequence(sequence.Slot, 0, 2, sequence.Length)]);
        batch.Attend(0, sequence.Data.Queries[0].AsSpan(^(2 * 4 * 64)), output);
        batch.End();
        return output;
    }

    private static Attention RunInChunks(KernelShape shape, SequenceData data, IEnumerable<int> chunks)
    {
        using var harness = new TierHarness(TTier.Create, shape, 100);
        HarnessSequence sequence = harness.Add(data);
        (List<float> output, List<float> lse) = ([], []);
        foreach (int tokens in chunks)
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            Attention attention = harness.Attend(0);
            output.AddRange(attention.Output);
            lse.AddRange(attention.LogSumExp);
            Assert.Null(harness.End());
            harness.Seal(sequence);
        }

        return new Attention([.. output], [.. lse]);
    }
}
