using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>Reads that read, and refused calls that leave nothing behind.</summary>
public class EngineCallTests
{
    [Fact]
    public async Task Attending_loses_no_token_where_others_take_all_the_room()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            (c.CacheStrategy, c.MaxTokens) = (KvCacheStrategy.Paged, 128);
            c.ConfigureOptions += options => options.MaxSequences = 2;
        });
        engine.PutMany(0, 49, "a");
        int full = 0;
        while (Record.Exception(() => engine.PutMany(full, 1, "b")) is null)
        {
            full++;
        }

        float[] token = Numbers(1);
        Task[] calls =
        [
            Task.Run(() => Repeat(6000, _ => engine.Forward(Numbers(3), new float[Token], "a"))),
            Task.Run(() => Repeat(6000, i => Assert.Throws<KvOutOfMemoryException>(() => engine.Put(full + i, token, token, "b")))),
        ];
        await Task.WhenAll(calls);
        engine.AssertHolds(48, 48, "a");
        Assert.Equal(49 + full, engine.GetStats().Tokens);
    }

    [Fact]
    public void With_working_memory_for_one_call_all_calls_succeed()
    {
        Action<KvCacheConfig> shape = c =>
        {
            (c.CacheStrategy, c.MaxTokens) = (KvCacheStrategy.Paged, 256);
            c.ConfigureOptions += options => (options.MaxSequences, options.MaxBatchTokens) = (4, 64);
        };
        long bytes;
        using (UltraAdaptiveKvCacheEngine roomy = Engine(shape))
        {
            Fill(roomy, 60);
            bytes = roomy.Cache.AllocatedBytes;
        }

        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            shape(c);
            c.ConfigureOptions += options => options.MemoryBudgetBytes = bytes + 20_000;
        });
        Fill(engine, 40);
        float[][] expected = [.. Enumerable.Range(0, 4).Select(i => Ask(engine, i))];
        Parallel.For(0, 4, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i => Repeat(100, n =>
        {
            Assert.Equal(expected[i], Ask(engine, i));
            engine.Put(39, Key(i), Value(i), $"{i}");
            if (n % 10 == 0)
            {
                engine.PutMany(40 + (n / 10), 1, $"{i}");
                expected[i] = Ask(engine, i);
            }
        }));
        Assert.Equal(4 * 50, engine.GetStats().Tokens);
    }

    [Fact]
    public void Attention_without_a_token_counts_for_what_stays()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            (c.CacheStrategy, c.MaxTokens) = (KvCacheStrategy.Lfu, 1024);
            c.ConfigureOptions += options => options.MemoryBudgetPercent = 60;
        });
        engine.PutMany(0, 120);

        // Asked for again and again, and of a key that the query points at: it outlives its neighbours.
        float[] wanted = [.. Key(40).Select(x => 4 * x)];
        int next = 120;
        Repeat(30, _ =>
        {
            engine.Forward(wanted, new float[Token]);
            engine.PutMany(next++, 1);
        });
        engine.PutMany(next, 700);
        Assert.True(engine.GetStats().EvictedTokens > 200);
        engine.AssertHolds(40, 40);
    }

    [Fact]
    public void A_tenant_over_its_quota_leaves_the_sequences_to_others()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            (c.Tenancy.MultiTenant, c.Tenancy.TenantMaxTokens) = (true, 6);
            c.ConfigureOptions += options => options.MaxSequences = 2;
        });
        for (int i = 0; i < 4; i++)
        {
            KvSessionKey greedy = new($"g{i}", "greedy");
            Assert.Throws<KvOutOfMemoryException>(() => engine.Put(0, Numbers(1, 7 * Token), Numbers(2, 7 * Token), greedy));
            Assert.Throws<KvOutOfMemoryException>(() => engine.Forward(Numbers(3, 7 * Token), Numbers(1, 7 * Token), Numbers(2, 7 * Token), new float[7 * Token], greedy));
        }

        Assert.Empty(engine.Sessions);
        engine.PutMany(0, 6, new KvSessionKey("m", "modest"));
        engine.PutMany(0, 6, new KvSessionKey("n", "greedy"));
        Assert.Throws<KvOutOfMemoryException>(() => engine.PutMany(6, 1, new KvSessionKey("n", "greedy")));
        Assert.Equal(12, engine.GetStats().Tokens);
    }

    [Fact]
    public void No_refused_call_makes_a_session()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            c.MaxTokens = 64;
            c.ConfigureOptions += options => (options.MaxBatchTokens, options.MaxSequences) = (32, 2);
        });
        long empty = engine.Cache.AllocatedBytes;
        float[] bad = [.. Key(1)[..^2], float.NaN, 1];
        for (int i = 0; i < 3; i++)
        {
            Assert.Throws<KvNonFiniteException>(() => engine.Put(0, bad, Value(1), $"s{i}"));
            Assert.Throws<KvNonFiniteException>(() => engine.Forward(Key(1), Key(1), bad, new float[Token], $"s{i}"));
            Assert.Throws<ArgumentException>(() => engine.Put(0, Numbers(1, 33 * Token), Numbers(2, 33 * Token), $"s{i}"));
            Assert.Throws<ArgumentOutOfRangeException>(() => engine.Put(int.MaxValue, Numbers(1, 2 * Token), Numbers(2, 2 * Token), $"s{i}"));
            Assert.False(engine.TryGet(0, new float[Token], new float[Token], $"s{i}"));
            Assert.Throws<ArgumentException>(() => engine.Forward(Key(1), new float[Token], $"s{i}"));
        }

        Assert.Equal((0, empty), (engine.Sessions.Count, engine.Cache.AllocatedBytes));
        engine.PutMany(0, 64, "full");
        Assert.Throws<KvOutOfMemoryException>(() => engine.Put(64, Numbers(1, Token), Numbers(2, Token), "full"));
        using (KvSequence taken = engine.Cache.CreateSequence())
        {
            Assert.Throws<KvOutOfMemoryException>(() => engine.PutMany(0, 1, "more"));
        }

        engine.PutMany(0, 1, "more");
        Assert.Equal(["full", "more"], engine.Sessions.Select(s => s.Id).Order());
    }

    [Fact]
    public void A_call_that_waits_for_a_refused_one_makes_the_session_anew()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.ConfigureOptions += options => options.MaxBatchTokens = 8);
        for (int round = 0; round < 40; round++)
        {
            string session = $"{round % 2}";
            Parallel.For(0, 6, new ParallelOptions { MaxDegreeOfParallelism = 3 }, i =>
            {
                if (i % 3 == 0)
                {
                    engine.PutMany(i, 1, session);
                }
                else
                {
                    Assert.Throws<ArgumentException>(() => engine.Put(100, Numbers(1, 9 * Token), Numbers(2, 9 * Token), session));
                }
            });
            engine.AssertHolds(0, 0, session);
            engine.AssertHolds(3, 3, session);
            engine.Clear(session);
        }
    }

    [Theory]
    [InlineData("t4")]
    [InlineData("i8")]
    public void A_replacement_changes_its_own_token_alone(string method)
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c =>
        {
            KeyTests.Compress(c);
            c.Compression.CompressionMethod = method;
        });
        engine.PutMany(0, 56);
        (float[] Key, float[] Value)[] before = [.. Enumerable.Range(0, 56).Select(i => engine.Get(i)!.Value)];
        float[] bad = Key(9);
        bad[3] = float.NaN;
        foreach (int position in (int[])[2, 30, 50])
        {
            KvCacheException refused = Assert.ThrowsAny<KvCacheException>(() => engine.Put(position, bad, Value(9)));
            Assert.Equal(position < 32 ? "E009" : "E004", refused.Code);
        }

        Assert.Contains("from 32 on", Assert.Throws<KvUnsupportedException>(() => engine.Put(31, Key(9), Value(9))).Message, StringComparison.Ordinal);
        engine.Put(37, Key(9), Value(9));
        engine.AssertHolds(37, 9);
        for (int i = 0; i < 56; i++)
        {
            (float[] Key, float[] Value) now = engine.Get(i)!.Value;
            Assert.True(i == 37 || (now.Key.SequenceEqual(before[i].Key) && now.Value.SequenceEqual(before[i].Value)), $"token {i}");
        }

        Assert.Equal(56, engine.GetStats().Tokens);
    }

    [Fact]
    public void A_policy_that_throws_leaves_positions_and_tokens_agreed()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine(c => c.ConfigureOptions += options => options.Policy = new Throwing());
        Assert.Throws<InvalidOperationException>(() => engine.PutMany(4, 1));
        Assert.Throws<InvalidOperationException>(() => engine.PutMany(9, 1));
        engine.AssertHolds(4, 4);
        engine.AssertHolds(9, 9);
        Assert.Equal(2, engine.GetStats().Tokens);
    }

    private sealed class Throwing : KvPolicy
    {
        public override bool ActsUnasked => true;

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state) => throw new InvalidOperationException();

        public override int MostKeptPages(int pageTokens) => int.MaxValue;
    }

    private static void Fill(UltraAdaptiveKvCacheEngine engine, int tokens)
    {
        for (int i = 0; i < 4; i++)
        {
            engine.PutMany(0, tokens, $"{i}");
        }
    }

    private static float[] Ask(UltraAdaptiveKvCacheEngine engine, int session)
    {
        float[] output = new float[Token];
        engine.Put(39, Key(session), Value(session), $"{session}");
        engine.Forward(Numbers(3), output, $"{session}");
        return output;
    }

    private static void Repeat(int times, Action<int> call)
    {
        for (int i = 0; i < times; i++)
        {
            call(i);
        }
    }
}
