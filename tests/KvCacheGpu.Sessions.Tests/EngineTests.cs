using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>Sessions by id, tokens by position: the API of older versions, over pages.</summary>
public class EngineTests
{
    [Fact]
    public void The_line_of_the_guide_compiles_and_works()
    {
        using var cache = new UltraAdaptiveKvCacheEngine(new KvCacheConfig { MaxTokens = 4096 });
        Assert.True(cache.ValidateConfiguration().IsValid);
        float[] token = Numbers(1, 8 * 64);
        cache.Put(0, token, token);
        Assert.Equal(token, cache.Get(0)!.Value.Key);
    }

    [Fact]
    public void What_was_put_is_got_and_attended_to()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 20);
        engine.AssertHolds(7, 7);
        engine.AssertHolds(19, 19);
        Assert.Null(engine.Get(20));
        Assert.Null(engine.Get(0, "another"));
        float[] output = new float[Token];
        float[] query = Numbers(5);
        engine.Forward(query, output);
        AssertNear(Attention(query, [.. Enumerable.Range(0, 20)]), output);
        Assert.Equal((20L, 2L, 2L, 0.5), (engine.GetStats().Tokens, engine.GetStats().Hits, engine.GetStats().Misses, engine.GetStats().HitRate));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(33)]
    public void Attending_leaves_no_trace(int tokens)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.CacheStrategy = KvCacheStrategy.Compressed);
        engine.PutMany(0, tokens);
        (float[] Key, float[] Value)?[] before = [.. Enumerable.Range(0, tokens).Select(i => engine.Get(i))];
        float[] first = new float[Token];
        float[] second = new float[Token];
        engine.Forward(Numbers(5), first);
        engine.Forward(Numbers(5), second);
        Assert.Equal(first, second);
        Assert.Equal(tokens, engine.GetStats().Tokens);
        for (int i = 0; i < tokens; i++)
        {
            Assert.Equal(before[i]!.Value.Key, engine.Get(i)!.Value.Key);
            Assert.Equal(before[i]!.Value.Value, engine.Get(i)!.Value.Value);
        }
    }

    [Fact]
    public void Forward_with_a_token_appends_it_and_sees_it()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(10, 1);
        float[] output = new float[2 * Token];
        float[] query = Numbers(5, 2 * Token);
        Assert.Equal(11, engine.Forward(query, [.. Key(11), .. Key(12)], [.. Value(11), .. Value(12)], output));
        AssertNear(Attention(query[..Token], 10, 11), output[..Token]);
        AssertNear(Attention(query[Token..], 10, 11, 12), output[Token..]);
        engine.AssertHolds(12, 12);
        Assert.Equal(13, engine.Forward(query.AsSpan(..Token), Key(13), Value(13), output.AsSpan(..Token)));
    }

    [Fact]
    public void A_failed_forward_takes_no_token_with_it()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 5);
        float[] poison = Numbers(5);
        Assert.Throws<KvNonFiniteException>(() => engine.Put(5, [.. poison[..^1], float.NaN], Value(5)));
        Assert.Throws<ArgumentException>("output", () => engine.Forward(poison, new float[Token - 1]));
        Assert.Equal(5, engine.GetStats().Tokens);
        engine.AssertHolds(4, 4);
        Assert.Null(engine.Get(5));
    }

    [Fact]
    public void Positions_may_have_gaps_and_any_order_and_be_put_again()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        int[] positions = [100, 3, int.MaxValue, 50, .. Enumerable.Range(200, 30)];
        foreach (int position in positions)
        {
            engine.Put(position, Key(position % 1000), Value(position % 1000));
        }

        engine.Put(3, Key(999), Value(999));
        engine.AssertHolds(3, 999);
        Assert.All(positions.Where(p => p != 3), p => engine.AssertHolds(p, p % 1000));
        Assert.Equal(positions.Length, engine.GetStats().Tokens);
        float[] output = new float[Token];
        engine.Forward(Numbers(5), output);
        AssertNear(Attention(Numbers(5), [.. positions.Select(p => p == 3 ? 999 : p % 1000)]), output);
    }

    [Fact]
    public void A_token_that_cannot_be_replaced_stays_with_all_after_it()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 40);
        float[] bad = Key(3);
        bad[7] = float.PositiveInfinity;
        Assert.Throws<KvNonFiniteException>(() => engine.Put(3, bad, Value(3)));
        Assert.All(Enumerable.Range(0, 40), i => engine.AssertHolds(i, i));
        ArgumentException again = Assert.Throws<ArgumentException>(() => engine.Put(39, [.. Key(39), .. Key(40)], [.. Value(39), .. Value(40)]));
        Assert.Contains("got 39 again", again.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_what_a_policy_left_each_token_can_be_replaced()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.CacheMode = KvCacheMode.Streaming);
        engine.PutMany(0, 200);
        Assert.Null(engine.Get(32));
        Assert.True(engine.GetStats().EvictedTokens > 0);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => engine.Put(32, Key(0), Value(0))).Code);
        engine.Put(0, Key(8), Value(8));
        engine.AssertHolds(0, 8);
        engine.AssertHolds(1, 1);
        engine.Put(199, Key(7), Value(7));
        engine.AssertHolds(199, 7);
    }

    [Fact]
    public void Sessions_are_apart_and_give_their_memory_back()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        long empty = engine.Cache.AllocatedBytes;
        engine.PutMany(0, 20, "a");
        engine.Put(0, Key(77), Value(77), "b");
        engine.AssertHolds(0, 0, "a");
        engine.AssertHolds(0, 77, "b");
        Assert.Equal(["a", "b"], engine.Sessions.Select(s => s.Id).Order());
        Assert.True(engine.Clear("a"));
        Assert.False(engine.Clear("a"));
        Assert.Null(engine.Get(0, "a"));
        engine.AssertHolds(0, 77, "b");
        engine.Clear();
        Assert.Equal((0, empty), (engine.GetStats().Sessions, engine.Cache.AllocatedBytes));
        Assert.Throws<ArgumentException>(() => engine.Forward(Numbers(1), new float[Token], "b"));
    }

    [Fact]
    public void Many_layers_are_one_call_and_equal_the_cache_below()
    {
        var geometry = new KvGeometry(layers: 3, queryHeads: 4, kvHeads: 2, keyWidth: 16, pageTokens: 8);
        using var engine = new UltraAdaptiveKvCacheEngine(geometry, Config());
        using var cache = new KvCache(geometry, engine.Cache.Options);
        using KvSequence sequence = cache.CreateSequence();
        float[] keys = Numbers(1, 3 * 5 * 32);
        float[] values = Numbers(2, 3 * 5 * 32);
        float[] queries = Numbers(3, 3 * 5 * 64);
        float[] output = new float[3 * 5 * 64];
        engine.Forward(queries, keys, values, output);
        float[] expected = new float[3 * 5 * 64];
        using (KvStep step = sequence.Begin([0, 1, 2, 3, 4]))
        {
            for (int layer = 0; layer < 3; layer++)
            {
                step.Append(layer, keys.AsSpan(layer * 160, 160), values.AsSpan(layer * 160, 160));
                step.Attend(layer, queries.AsSpan(layer * 320, 320), expected.AsSpan(layer * 320, 320));
            }

            step.Commit();
        }

        Assert.Equal(expected, output);
        (float[] key, _) = engine.Get(4)!.Value;
        Assert.Equal([.. keys.AsSpan(128, 32), .. keys.AsSpan(288, 32), .. keys.AsSpan(448, 32)], key);
    }

    [Fact]
    public void It_tells_its_version_and_what_it_can_do_here()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        Assert.Matches(@"^\d+\.\d+\.\d+", engine.GetVersion());
        Assert.DoesNotContain("+", engine.GetVersion(), StringComparison.Ordinal);
        IReadOnlyList<string> features = engine.GetSupportedFeatures();
        Assert.Equal(features.Order(StringComparer.Ordinal), features);
        Assert.Equal(features.Distinct(), features);
        Assert.Contains("device:cpu", features);
        Assert.Contains("format:t4/v4", features);
        Assert.Contains("strategy:lru", features);
        Assert.DoesNotContain("policy:expected-attention", features);
        using var narrow = new UltraAdaptiveKvCacheEngine(new KvGeometry(1, 1, 1, 24), Config());
        Assert.DoesNotContain("format:q8_0/q8_0", narrow.GetSupportedFeatures());
    }

    [Fact]
    public async Task After_disposal_every_call_says_so()
    {
        UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 1);
        await engine.DisposeAsync();
        engine.Dispose();
        Assert.Throws<ObjectDisposedException>(() => engine.Put(1, Key(1), Value(1)));
        Assert.Throws<ObjectDisposedException>(() => engine.Get(0));
        Assert.Throws<ObjectDisposedException>(() => engine.GetStats());
    }

    [Fact]
    public void Threads_on_own_and_shared_sessions_queue()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.Execution.EnableProfiling = true);
        Parallel.For(0, 60, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i =>
        {
            engine.Put(i, Key(i), Value(i), i % 2 == 0 ? "even" : "odd");
            engine.Forward(Numbers(i), new float[Token], i % 2 == 0 ? "even" : "odd");
            _ = engine.GetStats();
        });
        Assert.All(Enumerable.Range(0, 60), i => engine.AssertHolds(i, i, i % 2 == 0 ? "even" : "odd"));
    }
}
