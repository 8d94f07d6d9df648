namespace KvCacheGpu.Tests;

/// <summary>Random operations on an engine and on plain dictionaries of tokens by position, side by side.</summary>
internal sealed partial class RandomEngineOperations : IDisposable
{
    private const int MaxTokens = 48;
    private const int MaxSessions = 6;
    private const int Quota = 80;
    private const int Positions = 120;

    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvSessionKey[] Keys = [.. from tenant in new[] { "north", "south" } from id in new[] { "", "a", "b", "c" } select new KvSessionKey(id, tenant)];

    private readonly Random _random;
    private readonly UltraAdaptiveKvCacheEngine _engine;
    private readonly UltraAdaptiveKvCacheEngine _other;
    private readonly bool _isExact;
    private readonly Dictionary<KvSessionKey, Dictionary<int, int>> _sessions = [];
    private readonly Dictionary<(string Tenant, string Name), Dictionary<int, int>> _saved = [];
    private int _nextSeed = 1;

    /// <summary>Makes the engine, and one of other page sizes and formats that loads what the first has saved.</summary>
    /// <param name="isExact">True if nothing is stored in fewer bits, and nothing dropped.</param>
    /// <param name="path">A folder of its own.</param>
    /// <param name="seed">Of what is done.</param>
    public RandomEngineOperations(bool isExact, string path, int seed)
    {
        (_isExact, _random) = (isExact, new Random(seed));
        _engine = Engine(G, path, options =>
        {
            if (!isExact)
            {
                (options.KeyFormat, options.ValueFormat, options.Policy) = (PageFormat.I8, PageFormat.I8, new LruPolicy());
            }
        }, isExact ? 800 : 110);
        var other = new KvGeometry(G.Layers, G.QueryHeads, G.KvHeads, G.KeyWidth, pageTokens: 6) { Rope = G.Rope };
        _other = Engine(other, path, options => (options.KeyFormat, options.ValueFormat) = isExact ? (PageFormat.F32, PageFormat.F32) : (PageFormat.F16, PageFormat.F16), 200);
    }

    public Dictionary<string, int> Done { get; } = [];

    public void Run(int operations)
    {
        for (int i = 0; i < operations; i++)
        {
            string done = Operate(Keys[_random.Next(Keys.Length)]);
            Done[done] = Done.GetValueOrDefault(done) + 1;
            Check(Keys[_random.Next(Keys.Length)], everyToken: i % 32 == 0);
        }
    }

    /// <summary>Drops all: nothing may be left.</summary>
    public void Finish()
    {
        _engine.Clear();
        Assert.Equal((default, 0), (_engine.Cache.GetPageCounts(), _engine.Sessions.Count));
        _engine.Dispose();
        Assert.Equal((0, 0), (_engine.Cache.AllocatedBytes, _engine.Cache.ReservedBytes));
    }

    public void Dispose()
    {
        _engine.Dispose();
        _other.Dispose();
    }

    private string Operate(KvSessionKey key) => _random.Next(1000) switch
    {
        < 260 => Put(key, 1),
        < 360 => Put(key, 2 + _random.Next(5)),
        < 480 => Replace(key),
        < 540 => PutNaN(key),
        < 600 => PutTaken(key),
        < 760 => Forward(key),
        < 890 => ForwardOn(key),
        < 920 => Save(key),
        < 950 => Load(key),
        < 960 => LoadElsewhere(key),
        < 995 => Clear(key),
        _ => ClearAll(),
    };

    private string Put(KvSessionKey key, int tokens)
    {
        int position = _random.Next(Positions);
        int[] seeds = NewSeeds(tokens);
        Dictionary<int, int> held = _sessions.GetValueOrDefault(key, []);
        if (Enumerable.Range(position, tokens).Any(held.ContainsKey))
        {
            return "put, taken";
        }

        if (!Does(key, tokens, () => _engine.Put(position, Content(TokenContent.Keys, seeds), Content(TokenContent.Values, seeds), key)))
        {
            return "put refused";
        }

        Note(key, position, seeds);
        return tokens == 1 ? "put" : "put many";
    }

    private string Replace(KvSessionKey key)
    {
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            return "nothing to replace";
        }

        int position = held.Keys.ElementAt(_random.Next(held.Count));
        int[] seeds = NewSeeds(1);
        Exception? refused = Record.Exception(() => _engine.Put(position, Content(TokenContent.Keys, seeds), Content(TokenContent.Values, seeds), key));
        if (refused is not null)
        {
            // Dropped, or sealed into fewer bits.
            Assert.True(!_isExact && refused is KvUnsupportedException or KvOutOfMemoryException, $"{refused}");
            return "replace refused";
        }

        held[position] = seeds[0];
        return "replace";
    }

    // Refused, it changes nothing: also a session that there was not is not there.
    private string PutNaN(KvSessionKey key)
    {
        int tokens = 1 + _random.Next(3);
        const int position = 100_000;
        float[] values = Content(TokenContent.Values, NewSeeds(tokens));
        values[_random.Next(values.Length)] = float.NaN;
        Exception? refused = Record.Exception(() => _engine.Put(position, Content(TokenContent.Keys, NewSeeds(tokens)), values, key));
        Assert.True(refused is KvNonFiniteException or KvOutOfMemoryException, $"{refused}");
        Check(key, everyToken: true);
        return "put NaN";
    }

    private string PutTaken(KvSessionKey key)
    {
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            return "nothing taken";
        }

        int position = Math.Max(0, held.Keys.ElementAt(_random.Next(held.Count)) - _random.Next(2));
        int[] seeds = NewSeeds(2);
        Assert.ThrowsAny<ArgumentException>(() => _engine.Put(position, Content(TokenContent.Keys, seeds), Content(TokenContent.Values, seeds), key));
        Check(key, everyToken: true);
        return "put taken";
    }

    private string Forward(KvSessionKey key)
    {
        int seed = _random.Next();
        float[] output = new float[G.Layers * G.QueryHeads * G.ValueWidth];
        void Ask() => _engine.Forward(Content(TokenContent.Queries, [seed]), output, key);
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            Assert.Throws<ArgumentException>(Ask);
            return "forward over nothing";
        }

        Ask();
        AssertAttention(seed, [.. held.Values], output, 0, 1);
        Check(key, everyToken: true);
        return "forward";
    }

    private string ForwardOn(KvSessionKey key)
    {
        int[] seeds = NewSeeds(1 + _random.Next(4));
        Dictionary<int, int> held = _sessions.GetValueOrDefault(key, []);
        int expected = held.Count == 0 ? 0 : held.Keys.Max() + 1;
        float[] output = new float[G.Layers * seeds.Length * G.QueryHeads * G.ValueWidth];
        int position = -1;
        bool done = Does(key, seeds.Length, () => position = _engine.Forward(
            Content(TokenContent.Queries, seeds), Content(TokenContent.Keys, seeds), Content(TokenContent.Values, seeds), output, key));
        if (!done)
        {
            return "forward refused";
        }

        Assert.Equal(expected, position);
        int[] before = [.. held.Values];
        for (int i = 0; i < seeds.Length; i++)
        {
            AssertAttention(seeds[i], [.. before, .. seeds.Take(i + 1)], output, i, seeds.Length);
        }

        Note(key, position, seeds);
        return "forward on";
    }

    private string Save(KvSessionKey key)
    {
        string name = $"n{_random.Next(3)}";
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            Assert.Throws<ArgumentException>(() => { _ = _engine.SaveAsync(name, key); });
            return "save nothing";
        }

        _ = _engine.SaveAsync(name, key).GetAwaiter().GetResult();
        _saved[(key.Tenant!, name)] = new(held);
        return "save";
    }

    private string Load(KvSessionKey key)
    {
        string name = $"n{_random.Next(3)}";
        KvRestored Ask() => _engine.LoadAsync(name, key).GetAwaiter().GetResult();
        if (!_saved.TryGetValue((key.Tenant!, name), out Dictionary<int, int>? saved))
        {
            Assert.Throws<KvSnapshotNotFoundException>(Ask);
            return "load nothing";
        }

        // It is there beside what it replaces for a moment.
        bool fits = _sessions.Count < MaxSessions && TokensOf(key.Tenant!, except: key) + saved.Count <= Quota;
        KvCacheException? refused = (KvCacheException?)Record.Exception(() => _ = Ask());
        if (refused is not null)
        {
            Assert.IsType<KvOutOfMemoryException>(refused);
            Assert.True(!fits || !_isExact, refused.Message);
            Check(key, everyToken: true);
            return "load refused";
        }

        Assert.True(fits, "more was loaded than there is room for");
        _sessions[key] = new(saved);
        Check(key, everyToken: true);
        return "load";
    }

    private string LoadElsewhere(KvSessionKey key)
    {
        string name = $"n{_random.Next(3)}";
        if (!_saved.TryGetValue((key.Tenant!, name), out Dictionary<int, int>? saved))
        {
            return "load nothing elsewhere";
        }

        try
        {
            _ = _other.LoadAsync(name, key).GetAwaiter().GetResult();
        }
        catch (KvUnsupportedException) when (!_isExact)
        {
            return "load elsewhere unsupported";
        }

        CheckTokens(_other, key, saved);
        int next = saved.Keys.Max() + 1;
        int[] seeds = NewSeeds(Math.Min(9, MaxTokens - saved.Count));
        if (seeds.Length > 0)
        {
            _other.Put(next, Content(TokenContent.Keys, seeds), Content(TokenContent.Values, seeds), key);
            var more = new Dictionary<int, int>(saved);
            for (int i = 0; i < seeds.Length; i++)
            {
                more[next + i] = seeds[i];
            }

            CheckTokens(_other, key, more);
        }

        Assert.True(_other.Clear(key));
        Assert.Equal(default, _other.Cache.GetPageCounts());
        return "load elsewhere";
    }

    private string Clear(KvSessionKey key)
    {
        Assert.Equal(_sessions.Remove(key), _engine.Clear(key));
        return "clear";
    }

    private string ClearAll()
    {
        _engine.Clear();
        _sessions.Clear();
        Assert.Equal(default, _engine.Cache.GetPageCounts());
        return "clear all";
    }

    // Whether it went through: exactly where there is room, as far as counts tell it.
    private bool Does(KvSessionKey key, int tokens, Action call)
    {
        int held = _sessions.GetValueOrDefault(key, []).Count;
        bool fits = held + tokens <= MaxTokens && TokensOf(key.Tenant!, except: null) + tokens <= Quota && (held > 0 || _sessions.Count < MaxSessions);
        Exception? refused = Record.Exception(call);
        if (refused is null)
        {
            Assert.True(fits, "more went in than there is room for");
            return true;
        }

        Assert.IsType<KvOutOfMemoryException>(refused);
        Assert.True(!fits || !_isExact, refused.Message);
        Check(key, everyToken: true);
        return false;
    }

    private void Note(KvSessionKey key, int position, int[] seeds)
    {
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            _sessions[key] = held = [];
        }

        for (int i = 0; i < seeds.Length; i++)
        {
            held.Add(position + i, seeds[i]);
        }
    }

    private int TokensOf(string tenant, KvSessionKey? except) => _sessions.Where(pair => pair.Key.Tenant == tenant && pair.Key != except).Sum(pair => pair.Value.Count);

    private int[] NewSeeds(int count)
    {
        int first = _nextSeed;
        _nextSeed += count;
        return [.. Enumerable.Range(first, count)];
    }

    private delegate float[] OfLayer(KvGeometry geometry, int layer, ReadOnlySpan<int> ids);

    private static float[] Content(OfLayer content, int[] seeds) => [.. Enumerable.Range(0, G.Layers).SelectMany(layer => content(G, layer, seeds))];

    private static UltraAdaptiveKvCacheEngine Engine(KvGeometry geometry, string path, Action<KvCacheOptions> change, int budgetPercent)
    {
        var config = new KvCacheConfig
        {
            MaxTokens = MaxTokens,
            Compression = { UseCompression = false },
        };
        config.ConfigureOptions += options =>
        {
            (options.Device, options.MaxSequences, options.MaxBatchTokens, options.PoisonPages) = ("cpu", MaxSessions, 12, true);
            (options.KeyFormat, options.ValueFormat, options.FullPrecision) = (PageFormat.F32, PageFormat.F32, PageFormat.F32);
        };
        config.ConfigureOptions += change;
        (config.Tenancy.MultiTenant, config.Tenancy.TenantMaxTokens) = (true, Quota);
        (config.Persistence.EnablePersistence, config.Persistence.PersistencePath) = (true, path);
        KvCacheOptions free = config.ToOptions(geometry);
        free.Policy = null;
        long budget = KvCache.BytesFor(geometry, free).BudgetBytes * budgetPercent / 100;
        config.ConfigureOptions += options => options.MemoryBudgetBytes = budget;
        return new UltraAdaptiveKvCacheEngine(geometry, config);
    }
}
