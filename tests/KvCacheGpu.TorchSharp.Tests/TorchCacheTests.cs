using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace KvCacheGpu.TorchSharp.Tests;

/// <summary>The cache of a model that knows no steps.</summary>
public class TorchCacheTests(ITestOutputHelper output)
{
    private const int Layers = 3;

    private static readonly KvGeometry Geometry = new(Layers, 4, 2, 16, 24, pageTokens: 8);

    public static TheoryData<ScalarType, int, bool> Inputs => new()
    {
        { ScalarType.Float32, 1, false }, { ScalarType.Float32, 1, true }, { ScalarType.Float32, 3, true },
        { ScalarType.Float16, 1, true }, { ScalarType.BFloat16, 2, true },
    };

    [TorchTheory]
    [MemberData(nameof(Inputs))]
    public void Update_returns_what_cat_returns_bit_for_bit(ScalarType type, int batch, bool batched)
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(Geometry);
        using var torchCache = new KvTorchCache(cache, batch);
        var all = new (Tensor Keys, Tensor Values)?[Layers];
        int dimension = batched ? 2 : 0, seed = 0;
        foreach (int tokens in new[] { 13, 1, 20, 1, 1 })
        {
            for (int layer = 0; layer < Layers; layer++)
            {
                Tensor k = Given(16), v = Given(24);
                all[layer] = all[layer] is { } old ? (cat([old.Keys, k], dimension), cat([old.Values, v], dimension)) : (k, v);
                (Tensor keys, Tensor values) = torchCache.Update(k, v, layer);
                Assert.Equal((type, type), (keys.dtype, values.dtype));
                Assert.True(keys.Equals(all[layer]!.Value.Keys) && values.Equals(all[layer]!.Value.Values), $"layer {layer} after {tokens} tokens");
            }

            Assert.Equal(all[0]!.Value.Keys.size(dimension), torchCache.Length);

            // As a projection gives them: [batch, tokens, heads, width], of which the model's layout is a view.
            Tensor Given(long width)
            {
                Tensor made = TestTorch.Random(seed++, type, batch, tokens, 2, width);
                return batched ? made.transpose(1, 2) : made.squeeze(0);
            }
        }

        output.WriteLine($"TORCH: {5 * Layers} cases");
    }

    [TorchFact]
    public void A_pass_that_throws_between_layers_leaves_nothing()
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(Geometry);
        using var torchCache = new KvTorchCache(cache);
        Pass(torchCache, 5);
        long bytes = cache.AllocatedBytes;

        // The model throws after two layers: nobody tells the cache.
        Tensor k = zeros(1, 2, 9, 16), v = zeros(1, 2, 9, 24);
        torchCache.Update(k, v, 0);
        torchCache.Update(k, v, 1);
        Assert.Equal(5, torchCache.Length);
        Pass(torchCache, 2); // The next pass undoes it.
        Assert.Equal(7, torchCache.Length);

        torchCache.Update(k, v, 0);
        torchCache.Truncate(5);
        Assert.Equal((5, bytes), (torchCache.Length, cache.AllocatedBytes));

        torchCache.Update(k, v, 0);
        torchCache.Abandon();
        Assert.Equal((5, bytes), (torchCache.Length, cache.AllocatedBytes));

        // A call that throws undoes the pass at once.
        torchCache.Update(k, v, 0);
        Assert.Throws<KvStepOrderException>(() => torchCache.Update(k, v, 2));
        Assert.Throws<KvStepOrderException>(() => torchCache.Update(k, v, 1));
        torchCache.Update(k, v, 0);
        Assert.Throws<ArgumentException>(() => torchCache.Update(k, k, 1));
        Assert.Throws<ArgumentException>(() => torchCache.Update(zeros(2, 2, 9, 16), zeros(2, 2, 9, 24), 0));
        Assert.Equal((5, bytes), (torchCache.Length, cache.AllocatedBytes));
        Assert.Throws<ArgumentOutOfRangeException>(() => torchCache.Truncate(6));

        torchCache.Reset();
        Assert.Equal(0, torchCache.Length);
        Pass(torchCache, 4);
        Assert.Equal(4, torchCache.Length);
    }

    [TorchFact]
    public void Numbers_that_are_not_finite_end_the_pass_with_the_last_layer()
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(Geometry);
        using var torchCache = new KvTorchCache(cache);
        Pass(torchCache, 5);
        Tensor k = full([1, 2, 3, 16], float.NaN), v = zeros(1, 2, 3, 24);
        torchCache.Update(k, v, 0);
        torchCache.Update(k, v, 1);
        Assert.Throws<KvNonFiniteException>(() => torchCache.Update(k, v, 2));
        Assert.Equal(5, torchCache.Length);
        Pass(torchCache, 1);
        Assert.Equal(6, torchCache.Length);
    }

    [TorchFact]
    public void Tokens_that_a_policy_evicted_are_missed_by_Update_and_not_by_Attend()
    {
        using DisposeScope scope = NewDisposeScope();
        using var cache = new KvCache(
            new KvGeometry(1, 4, 2, 16, pageTokens: 8),
            new KvCacheOptions { Device = "cpu", MaxTokens = 2048, MaxBatchTokens = 32, MaxSequences = 1, MemoryBudgetPercent = 40, Policy = new WindowPolicy(64) });
        using var torchCache = new KvTorchCache(cache);
        Tensor k = TestTorch.Random(1, ScalarType.Float32, 1, 2, 32, 16), v = TestTorch.Random(2, ScalarType.Float32, 1, 2, 32, 16), q = TestTorch.Random(3, ScalarType.Float32, 1, 4, 32, 16);
        while (torchCache.Sequences[0].EvictedTokens == 0)
        {
            torchCache.Attend(q, k, v, 0).Dispose();
            Assert.InRange(torchCache.Length, 32, 2048);
        }

        int length = torchCache.Length;
        Assert.Contains($"{length + 32} tokens", Assert.Throws<KvUnsupportedException>(() => torchCache.Update(k, v, 0)).Message, StringComparison.Ordinal);
        Assert.Equal(length, torchCache.Length);
        Assert.Equal([1, 4, 32, 16], torchCache.Attend(q, k, v, 0).shape);
    }

    [TorchFact]
    public void Disposing_gives_back_the_sequences_and_leaves_the_cache()
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(Geometry);
        long bytes = cache.AllocatedBytes;
        var torchCache = new KvTorchCache(cache, batch: 2);
        Pass(torchCache, 5);
        torchCache.Update(zeros(2, 2, 3, 16), zeros(2, 2, 3, 24), 0);
        torchCache.Dispose();
        Assert.Equal(bytes, cache.AllocatedBytes);
        torchCache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => torchCache.Length);
        Assert.Throws<ObjectDisposedException>(() => torchCache.Update(zeros(2, 2, 3, 16), zeros(2, 2, 3, 24), 0));
        Assert.Throws<KvOutOfMemoryException>(() => new KvTorchCache(cache, batch: 9));
        Assert.Equal(bytes, cache.AllocatedBytes);
    }

    [TorchFact]
    public void Only_what_is_returned_lives_on_and_it_belongs_to_the_callers_scope()
    {
        using KvCache cache = TestTorch.ExactCache(Geometry);
        using var torchCache = new KvTorchCache(cache);
        using KvSequence sequence = cache.CreateSequence();
        using Tensor k = zeros(1, 2, 4, 16), v = zeros(1, 2, 4, 24), q = zeros(1, 4, 4, 16), expanded = zeros(1, 1, 4, 16).expand(1, 4, 4, 16), halves = q.to(ScalarType.Float16);
        using Tensor target = zeros(1, 4, 4, 24);
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        var returned = new List<Tensor>();
        using (NewDisposeScope())
        {
            for (int layer = 0; layer < Layers; layer++)
            {
                (Tensor keys, Tensor values) = torchCache.Update(k, v, layer);
                returned.AddRange([keys, values]);
            }

            for (int layer = 0; layer < Layers; layer++)
            {
                returned.AddRange([torchCache.Attend(expanded, k, v, layer)]);
            }

            using KvStep step = sequence.Begin(new int[4]);
            step.Append(0, k, v);
            returned.Add(step.Attend(0, halves));
            step.Attend(0, q, target);
            Assert.Throws<ArgumentException>(() => step.Attend(0, k));
            Assert.Equal(before + returned.Count, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        }

        Assert.All(returned, tensor => Assert.True(tensor.IsInvalid));
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    private static void Pass(KvTorchCache cache, int tokens)
    {
        int batch = cache.Sequences.Count;
        for (int layer = 0; layer < Layers; layer++)
        {
            (Tensor keys, Tensor _) = cache.Update(ones(batch, 2, tokens, 16), ones(batch, 2, tokens, 24), layer);
            Assert.Equal(tokens + cache.Length - (layer == Layers - 1 ? tokens : 0), keys.size(2));
        }
    }
}
