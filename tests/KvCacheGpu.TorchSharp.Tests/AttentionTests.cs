using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace KvCacheGpu.TorchSharp.Tests;

/// <summary>Attention through torch tensors equals torch's own: types, layouts, strides, chunks, groups of query heads.</summary>
public class AttentionTests(ITestOutputHelper output)
{
    private const int Tokens = 75;

    // A prompt in three pieces, then tokens one by one; pages of 16 are sealed on the way.
    private static readonly int[] Steps = [40, 17, 13, 1, 1, 1, 1, 1];

    public static TheoryData<ScalarType, bool, int, int> Models
    {
        get
        {
            var models = new TheoryData<ScalarType, bool, int, int>();
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16 })
            {
                foreach (bool batched in new[] { false, true })
                {
                    models.Add(type, batched, 4, 4);
                    models.Add(type, batched, 6, 2);
                    models.Add(type, batched, 4, 1);
                }
            }

            return models;
        }
    }

    [TorchTheory]
    [MemberData(nameof(Models))]
    public void Equals_scaled_dot_product_attention(ScalarType type, bool batched, int queryHeads, int kvHeads)
    {
        using DisposeScope scope = NewDisposeScope();
        // Views of what a projection gives: [1, tokens, heads, width], transposed or squeezed.
        Tensor q = TestTorch.Random(1, type, 1, Tokens, queryHeads, 32), k = TestTorch.Random(2, type, 1, Tokens, kvHeads, 32), v = TestTorch.Random(3, type, 1, Tokens, kvHeads, 24);
        Tensor expected = TestTorch.Expected(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(2, queryHeads, kvHeads, 32, 24, pageTokens: 16));
        using KvSequence sequence = cache.CreateSequence();
        int cases = 0;
        for (int i = 0, first = 0; i < Steps.Length; first += Steps[i++])
        {
            using KvStep step = sequence.Begin(new int[Steps[i]]);
            for (int layer = 0; layer < 2; layer++)
            {
                step.Append(layer, Given(k, first, Steps[i]), Given(v, first, Steps[i]));
                Tensor queries = Given(q, first, Steps[i]);
                Tensor got = step.Attend(layer, queries);
                Assert.Equal((type, queries.ndim), (got.dtype, got.ndim));
                Tensor wanted = expected.narrow(2, first, Steps[i]);
                Assert.InRange(TestTorch.Error(got, batched ? wanted : wanted.squeeze(0).transpose(0, 1)), 0, Rounding(type));
                cases++;
            }

            step.Commit();
        }

        output.WriteLine($"TORCH: {cases} cases");

        Tensor Given(Tensor all, int first, int count)
        {
            Tensor piece = all.narrow(1, first, count);
            return batched ? piece.transpose(1, 2) : piece.squeeze(0);
        }
    }

    private static readonly string[] Ways = ["dense", "transposed", "every second token", "heads out of more", "vectors out of wider ones", "expanded heads", "every second element", "columns"];

    public static TheoryData<string> Views => [.. Ways];

    [TorchTheory]
    [MemberData(nameof(Views))]
    public void Any_strides_give_the_same(string view)
    {
        using DisposeScope scope = NewDisposeScope();
        foreach (bool batched in new[] { false, true })
        {
            Tensor k = View(view, batched, 11, 5, 2, 16), v = View(view, batched, 12, 5, 2, 16), q = View(view, batched, 13, 5, 4, 16);
            Assert.Equal(batched ? [1, 2, 5, 16] : [5, 2, 16], k.shape);
            using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16, pageTokens: 4));
            Tensor expected = Run(cache, q.contiguous(), k.contiguous(), v.contiguous());
            Assert.Equal(expected, Run(cache, q, k, v));
            output.WriteLine("TORCH: 1 cases");
        }
    }

    [TorchFact]
    public void A_batch_is_one_sequence_after_the_other()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor q = TestTorch.Random(1, ScalarType.Float32, 3, 4, 7, 16), k = TestTorch.Random(2, ScalarType.Float32, 3, 2, 7, 16), v = TestTorch.Random(3, ScalarType.Float32, 3, 2, 7, 16);
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16, pageTokens: 4));
        using KvSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        // Contiguous [batch, heads, tokens, width] is copied, since no one stride leads through it; a transposed projection is not.
        foreach (Func<Tensor, Tensor> lie in new Func<Tensor, Tensor>[] { t => t, t => t.transpose(1, 2).contiguous().transpose(1, 2) })
        {
            using KvStep step = cache.Begin([a, b, c], new int[21], [7, 7, 7]);
            step.Append(0, lie(k), lie(v));
            Assert.InRange(TestTorch.Error(step.Attend(0, lie(q)), TestTorch.Expected(q, k, v)), 0, 1e-5f);
        }

        output.WriteLine("TORCH: 2 cases");
    }

    [TorchFact]
    public void A_window_is_the_same_as_a_mask()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor q = TestTorch.Random(1, ScalarType.Float32, 1, 4, 30, 16), k = TestTorch.Random(2, ScalarType.Float32, 1, 2, 30, 16), v = TestTorch.Random(3, ScalarType.Float32, 1, 2, 30, 16);
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16, pageTokens: 8));
        using var torchCache = new KvTorchCache(cache);
        Assert.InRange(TestTorch.Error(torchCache.Attend(q, k, v, 0, window: 9), TestTorch.Expected(q, k, v, window: 9)), 0, 1e-5f);
        output.WriteLine("TORCH: 1 cases");
    }

    [TorchTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_output_of_the_hosts_is_written_in_place_and_one_of_other_strides_by_a_copy(bool batched)
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16, pageTokens: 4));
        using KvSequence sequence = cache.CreateSequence();
        Tensor k = View("dense", batched, 1, 5, 2, 16), v = View("dense", batched, 2, 5, 2, 16), q = View("dense", batched, 3, 5, 4, 16);
        using KvStep step = sequence.Begin(new int[5]);
        step.Append(0, k, v);
        Tensor expected = step.Attend(0, q);
        foreach (string view in Ways.Except(["expanded heads"]))
        {
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16 })
            {
                Tensor target = View(view, batched, 4, 5, 4, 16, type);
                step.Attend(0, q, target);
                Assert.Equal(expected.to(type), target);
            }
        }

        output.WriteLine("TORCH: 21 cases");
    }

    [TorchTheory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.Float16)]
    [InlineData(ScalarType.BFloat16)]
    public void Tensors_on_the_host_reach_a_device(ScalarType type)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor q = TestTorch.Random(1, type, 1, 2, 5, 16), k = TestTorch.Random(2, type, 1, 1, 5, 16), v = TestTorch.Random(3, type, 1, 1, 5, 16);
        using var cache = new KvCache(
            new KvGeometry(1, 2, 1, 16, pageTokens: 4), new KvCacheOptions { Device = "ilgpu-cpu", KeyFormat = PageFormat.F32, ValueFormat = PageFormat.F32, MaxTokens = 32, MaxBatchTokens = 8 });
        using var torchCache = new KvTorchCache(cache);
        (Tensor keys, Tensor values) = torchCache.Update(k, v, 0);
        Assert.Equal((k, v), (keys, values));
        torchCache.Reset();
        Assert.InRange(TestTorch.Error(torchCache.Attend(q, k, v, 0), TestTorch.Expected(q, k, v)), 0, Rounding(type));
        output.WriteLine("TORCH: 1 cases");
    }

    private static Tensor Run(KvCache cache, Tensor q, Tensor k, Tensor v)
    {
        using KvSequence sequence = cache.CreateSequence();
        using KvStep step = sequence.Begin(new int[5]);
        step.Append(0, k, v);
        return step.Attend(0, q);
    }

    // Half a unit in the last place of what is returned, and what float arithmetic loses.
    private static float Rounding(ScalarType type) => type switch { ScalarType.Float16 => 5e-4f, ScalarType.BFloat16 => 4e-3f, _ => 1e-5f };

    // A tensor of [tokens, heads, width] or [1, heads, tokens, width] that lies in some other way; its numbers are not those of the other ways.
    private static Tensor View(string view, bool batched, int seed, long tokens, long heads, long width, ScalarType type = ScalarType.Float32)
    {
        Tensor made = view switch
        {
            "dense" => TestTorch.Random(seed, type, tokens, heads, width),
            "transposed" => TestTorch.Random(seed, type, heads, tokens, width).transpose(0, 1),
            "every second token" => TestTorch.Random(seed, type, 2 * tokens, heads, width)[TensorIndex.Slice(1, null, 2)],
            "heads out of more" => TestTorch.Random(seed, type, tokens, heads + 3, width).narrow(1, 2, heads),
            "vectors out of wider ones" => TestTorch.Random(seed, type, tokens, heads, width + 8).narrow(2, 5, width),
            "expanded heads" => TestTorch.Random(seed, type, tokens, 1, width).expand(tokens, heads, width),
            "every second element" => TestTorch.Random(seed, type, tokens, heads, 2 * width)[TensorIndex.Ellipsis, TensorIndex.Slice(1, null, 2)],
            _ => TestTorch.Random(seed, type, width, heads, tokens).transpose(0, 2),
        };
        return batched ? made.transpose(0, 1).unsqueeze(0) : made;
    }
}
