using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama.Tests;

/// <summary>The decoder through the cache against a forward pass in binary64 that has no cache.</summary>
public sealed class DecoderTests(DemoFixture demo) : IClassFixture<DemoFixture>
{
    private int Vocabulary => demo.Model.Config.VocabularySize;

    [Theory]
    [InlineData(200)]
    [InlineData(64)]
    [InlineData(17)]
    public void Logits_of_200_tokens_are_those_of_the_plain_forward_pass(int chunk)
    {
        float[] logits = Logits(chunk);
        DemoFixture.AssertClose(demo.Expected, logits);
    }

    [Fact]
    public void Prompts_in_chunks_give_what_token_by_token_gives()
    {
        float[] single = Logits(1);
        DemoFixture.AssertClose(demo.Expected, single);
        foreach (int chunk in new[] { 2, 7, 16, 100, 200 })
        {
            float[] chunked = Logits(chunk);
            for (int i = 0; i < single.Length; i++)
            {
                Assert.Equal(single[i], chunked[i], 1e-4f);
            }
        }
    }

    [Theory]
    [InlineData(SimdLevel.Scalar)]
    [InlineData(SimdLevel.Vector256)]
    public void Narrower_vectors_give_the_same_bits(SimdLevel level)
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model, level: level), widest = new(demo.Model);
        using KvSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        float[] left = new float[40 * Vocabulary], right = new float[40 * Vocabulary];
        decoder.Forward(a, demo.Ids.AsSpan(0, 40), left);
        widest.Forward(b, demo.Ids.AsSpan(0, 40), right);
        Assert.Equal(right, left);
    }

    [Fact]
    public void The_last_token_s_logits_are_the_last_row_of_all()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        float[] last = new float[Vocabulary];
        decoder.Forward(sequence, demo.Ids, last);
        Assert.Equal(Logits(200)[^Vocabulary..], last);
        Assert.Equal(demo.Ids, sequence.TokenIds.ToArray());
    }

    [Fact]
    public void Sequences_of_a_batch_do_not_see_each_other()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        decoder.Forward(b, demo.Ids.AsSpan(0, 33), default);
        int[] ids = [.. demo.Ids[..50], .. demo.Ids[33..34], .. demo.Ids[..3]];
        float[] last = new float[3 * Vocabulary];
        decoder.Forward([a, b, c], ids, [50, 1, 3], last);
        DemoFixture.AssertClose([demo.Expected[49], demo.Expected[33], demo.Expected[2]], last);
        float[] all = new float[3 * Vocabulary];
        decoder.Forward([c, a, b], [demo.Ids[3], demo.Ids[50], demo.Ids[34]], [1, 1, 1], all);
        DemoFixture.AssertClose([demo.Expected[3], demo.Expected[50], demo.Expected[34]], all);
    }

    [Fact]
    public void Log_likelihood_is_the_sum_over_the_plain_forward_pass()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        double expected = Enumerable.Range(0, DemoFixture.Tokens - 1)
            .Sum(t => demo.Expected[t][demo.Ids[t + 1]] - Math.Log(demo.Expected[t].Sum(Math.Exp)));
        Assert.Equal(expected, decoder.LogLikelihood(sequence, demo.Ids), Math.Abs(expected) * 1e-5);
        Assert.Equal(DemoFixture.Tokens, sequence.Length);
    }

    [Theory]
    [InlineData("F32", 4, 2, 8, true, 24)]
    [InlineData("BF16", 4, 1, 16, false, 24)]
    [InlineData("F16", 3, null, null, false, 30)]
    [InlineData("F32", 6, 3, 12, true, 40)]
    [InlineData("BF16", 2, 2, null, true, 72)]
    public void Random_checkpoints_of_every_shape_agree_with_the_plain_forward_pass(string type, int heads, int? kvHeads, int? headWidth, bool tied, int hidden)
    {
        using TinyCheckpoint checkpoint = new(7, type, heads, kvHeads, headWidth, tied, hidden, inner: 37, vocabulary: 45);
        using LlamaModel model = checkpoint.Write().Load();
        using KvCache cache = DemoFixture.NewCache(model, pageTokens: 5);
        using LlamaDecoder decoder = new(model, 16);
        using KvSequence sequence = cache.CreateSequence();
        Random random = new(3);
        int[] ids = [.. Enumerable.Range(0, 23).Select(_ => random.Next(45))];
        float[] logits = new float[ids.Length * 45];
        decoder.Forward(sequence, ids.AsSpan(0, 16), logits.AsSpan(0, 16 * 45));
        decoder.Forward(sequence, ids.AsSpan(16), logits.AsSpan(16 * 45));
        DemoFixture.AssertClose(new PlainLlama(checkpoint.Path).Logits(ids), logits);
    }

    [Fact]
    public void A_forward_pass_allocates_nothing()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        float[] logits = new float[Vocabulary];
        decoder.Forward(sequence, demo.Ids.AsSpan(0, 64), logits);
        decoder.Forward(sequence, demo.Ids.AsSpan(64, 1), logits);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int t = 65; t < 85; t++)
        {
            decoder.Forward(sequence, demo.Ids.AsSpan(t, 1), logits);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Wrong_tokens_logits_and_caches_are_refused_and_leave_the_sequence_as_it_was()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model, 8);
        using KvSequence sequence = cache.CreateSequence();
        decoder.Forward(sequence, demo.Ids.AsSpan(0, 3), default);
        Assert.Throws<ArgumentException>(() => decoder.Forward(sequence, [], default));
        Assert.Throws<ArgumentException>(() => decoder.Forward(sequence, demo.Ids.AsSpan(0, 9), default));
        Assert.Throws<ArgumentOutOfRangeException>(() => decoder.Forward(sequence, [5, 1024], default));
        Assert.Throws<ArgumentOutOfRangeException>(() => decoder.Forward(sequence, [-1], default));
        Assert.Throws<ArgumentException>(() => decoder.Forward(sequence, [5], new float[7]));
        Assert.Throws<ArgumentException>(() => decoder.Forward([sequence], [5], [1, 1], default));
        Assert.Throws<ArgumentException>(() => decoder.Forward([], [5], [1], default));
        Assert.Throws<ArgumentNullException>(() => decoder.Forward([null!], [5], [1], default));
        using KvCache other = new(new KvGeometry(2, 4, 2, 64), new KvCacheOptions { Device = "cpu" });
        using KvSequence foreign = other.CreateSequence();
        Assert.Throws<ArgumentException>(() => decoder.Forward(foreign, [5], default));
        Assert.Equal(3, sequence.Length);
    }

    private float[] Logits(int chunk)
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        float[] logits = new float[DemoFixture.Tokens * Vocabulary];
        for (int first = 0; first < DemoFixture.Tokens; first += chunk)
        {
            int count = Math.Min(chunk, DemoFixture.Tokens - first);
            decoder.Forward(sequence, demo.Ids.AsSpan(first, count), logits.AsSpan(first * Vocabulary, count * Vocabulary));
        }

        return logits;
    }
}
