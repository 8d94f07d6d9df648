using KvCacheGpu.Import;
using KvCacheGpu.Import.Tests;
using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>Sessions outlive the engine, by name and by tenant; old files convert on the way in.</summary>
public sealed class EnginePersistenceTests : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("kv-engine").FullName;

    public void Dispose() => Directory.Delete(_path, recursive: true);

    [Fact]
    public async Task A_saved_session_goes_on_where_it_was()
    {
        float[] before = new float[Token];
        using (UltraAdaptiveKvCacheEngine engine = Persistent())
        {
            foreach (int position in (int[])[5, 900, 3, .. Enumerable.Range(1000, 40)])
            {
                engine.Put(position, Key(position), Value(position), "chat");
            }

            engine.Forward(Numbers(1), before, "chat");
            await engine.SaveAsync("evening", "chat");
        }

        using UltraAdaptiveKvCacheEngine next = Persistent();
        KvRestored restored = await next.LoadAsync("evening", "again");
        Assert.True(restored.IsExact);
        next.AssertHolds(900, 900, "again");
        float[] after = new float[Token];
        next.Forward(Numbers(1), after, "again");
        Assert.Equal(before, after);
        Assert.Equal(1040, next.Forward(Numbers(1), Key(1), Value(1), after, "again"));
        Assert.Null(next.Get(900, "chat"));
    }

    [Fact]
    public async Task Loading_replaces_the_session_that_is_there()
    {
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        engine.PutMany(0, 20);
        await engine.SaveAsync("a");
        engine.PutMany(20, 10);
        await engine.LoadAsync("a");
        Assert.Null(engine.Get(25));
        engine.AssertHolds(19, 19);
        Assert.Equal((1, 20L), (engine.GetStats().Sessions, engine.GetStats().Tokens));
    }

    [Fact]
    public async Task What_is_not_there_is_E002_and_the_session_stays()
    {
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        engine.PutMany(0, 3);
        await engine.SaveAsync("a");
        Assert.Equal("E002", (await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => engine.LoadAsync("b"))).Code);
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => engine.LoadAsync("../a"));
        Assert.Throws<ArgumentException>(() => { _ = engine.SaveAsync("a", "nobody"); });
        engine.AssertHolds(2, 2);
    }

    [Fact]
    public async Task Tenants_have_names_and_quotas_of_their_own()
    {
        var (acme, other) = (new KvSessionKey("s", "acme"), new KvSessionKey("s", "other"));
        using UltraAdaptiveKvCacheEngine engine = Persistent(c => (c.Tenancy.MultiTenant, c.Tenancy.TenantMaxTokens) = (true, 10));
        engine.PutMany(0, 6, acme);
        await engine.SaveAsync("a", acme);
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => engine.LoadAsync("a", other));

        // Nor by the path of a file of the snapshot.
        string file = Directory.EnumerateFiles(_path, "*CURRENT*").Select(Path.GetFileName).First()!;
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => engine.LoadAsync(file, other));
        engine.Clear(acme);
        engine.PutMany(0, 5, new KvSessionKey("t", "acme"));
        Assert.Equal("E001", (await Assert.ThrowsAsync<KvOutOfMemoryException>(() => engine.LoadAsync("a", acme))).Code);
        engine.Clear(new KvSessionKey("t", "acme"));
        await engine.LoadAsync("a", acme);
        engine.AssertHolds(5, 5, acme);
    }

    [Fact]
    public async Task A_file_of_an_older_version_converts_when_it_is_loaded()
    {
        await File.WriteAllTextAsync(Path.Combine(_path, "old_cache.pkl"), "old");
        using var engine = new UltraAdaptiveKvCacheEngine(Config(Persist)) { Importers = [new OldFile()] };
        engine.PutMany(0, 2);
        await engine.SaveAsync("makes the store");
        KvRestored restored = await engine.LoadAsync("old_cache.pkl");
        Assert.Equal("old", restored.ImportedBy);
        engine.AssertHolds(0, 100);
        engine.AssertHolds(2, 102);
        await engine.SaveAsync("new");
        await engine.LoadAsync("new");
        engine.AssertHolds(1, 101);
    }

    [Fact]
    public async Task An_old_pickle_in_the_persistence_path_converts_by_itself()
    {
        // As 1.x left it: positions, and beside them no store yet.
        (object, object?)[] positions = [.. Enumerable.Range(0, 5).Select(i => ((object)i, (object?)new object?[] { Row(Key(100 + i)), Row(Value(100 + i)) }))];
        await File.WriteAllBytesAsync(Path.Combine(_path, "old_cache.pkl"), OldPickle.Of(positions));
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        engine.PutMany(0, 2);
        KvRestored restored = await engine.LoadAsync("old_cache.pkl");
        Assert.Equal("pickle and torch.save", restored.ImportedBy);
        Assert.Equal(["old_cache.pkl"], Directory.EnumerateFileSystemEntries(_path).Select(Path.GetFileName));
        engine.AssertHolds(0, 100);
        engine.AssertHolds(4, 104);
        Assert.Equal(5L, engine.GetStats().Tokens);
        await engine.SaveAsync("new");
        engine.Clear();
        await engine.LoadAsync("new");
        engine.AssertHolds(3, 103);
    }

    [Fact]
    public async Task An_old_torch_file_becomes_its_sessions_and_a_NaN_costs_its_own_alone()
    {
        using (FileStream file = File.Create(Path.Combine(_path, "new_cache.pt")))
        {
            TorchWriter.Write(file, new ImportGeometry(1, Heads, Width, Width), ElementType.Float16, [.. new[] { "a", "bad", "c" }.Select((name, i) => new TorchSequence(
                name, 2 + i, (_, first, tokens, keys, values) =>
                {
                    for (int token = 0; token < tokens; token++)
                    {
                        Key((10 * i) + first + token).CopyTo(keys[(token * Token)..]);
                        Value((10 * i) + first + token).CopyTo(values[(token * Token)..]);
                    }

                    values[^1] = name == "bad" ? float.NaN : values[^1];
                }))]);
        }

        using UltraAdaptiveKvCacheEngine engine = Persistent();
        KvRestored restored = await engine.LoadAsync("new_cache.pt");
        Assert.Equal(["a", "c"], restored.Sequences.Select(s => s.Name));
        Assert.Contains("of 3 entries, 1 are left out: /'bad': a NaN among its values", restored.Notes);
        engine.AssertHolds(1, 1, "a");
        engine.AssertHolds(3, 23, "c");
    }

    [Fact]
    public async Task An_old_file_of_another_model_is_refused_and_the_session_stays()
    {
        OldArray narrow = new("f4", [Heads, 3, Width / 2], i => i);
        await File.WriteAllBytesAsync(Path.Combine(_path, "old.pkl"), OldPickle.Of(new (object, object?)[] { ("s", new object?[] { narrow, narrow }) }));
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        engine.PutMany(0, 2);
        KvConfigurationException refused = await Assert.ThrowsAsync<KvConfigurationException>(() => engine.LoadAsync("old.pkl"));
        Assert.Contains("1 layers of 2 heads, 64 and 64 wide", refused.Message, StringComparison.Ordinal);
        Assert.Contains("/'s'", refused.Message, StringComparison.Ordinal);
        engine.AssertHolds(1, 1);
    }

    private static OldArray Row(float[] numbers) => new("f4", [Heads, Width], i => numbers[i]);

    [Theory]
    [InlineData(7, 7, 7, 3, 7)]
    [InlineData(4, 3, 2, 1, 0)]
    public async Task A_plain_caches_tokens_are_found_by_their_places(params int[] ids)
    {
        using UltraAdaptiveKvCacheEngine engine = Persistent(c => c.ConfigureOptions += options => options.MaxSequences = 6);
        var store = new SnapshotStore(_path);
        using (var cache = new KvCache(engine.Cache.Geometry, engine.Cache.Options))
        using (KvSequence sequence = cache.CreateSequence())
        {
            Append(sequence, ids);
            await cache.SaveAsync(store, "plain", [sequence]);
        }

        await engine.LoadAsync("plain");
        for (int place = 0; place < ids.Length; place++)
        {
            engine.AssertHolds(place, place);
        }

        Assert.Null(engine.Get(7));
        Assert.Equal(5, engine.Forward(Numbers(1), Key(5), Value(5), new float[Token]));
        engine.Put(90, Key(90), Value(90));
        await engine.SaveAsync("session");
        await engine.LoadAsync("session", "again");
        engine.AssertHolds(5, 5, "again");
        engine.AssertHolds(90, 90, "again");

        // A plain cache finds the ids that it gave, and none for what came by positions.
        using var plain = new KvCache(engine.Cache.Geometry, engine.Cache.Options);
        KvSequence back = (await plain.LoadAsync(store, "session")).Sequences[0];
        Assert.Equal([.. ids, -1, -1], back.TokenIds.ToArray());

        // What it appends goes on after the largest position, also in its forks.
        using KvSequence fork = back.Fork();
        Append(fork, [6]);
        await plain.SaveAsync(store, "fork", [fork]);
        await engine.LoadAsync("fork", "forked");
        engine.AssertHolds(90, 90, "forked");
        engine.AssertHolds(91, 0, "forked");
        back.Truncate(6);
        await plain.SaveAsync(store, "cut", [back]);
        await engine.LoadAsync("cut", "cut");
        Assert.Null(engine.Get(90, "cut"));
        engine.AssertHolds(4, 4, "cut");
    }

    [Theory]
    [InlineData(true, 12, 900, 3, 0)]
    [InlineData(true, 12, -1, 3, 0)]
    [InlineData(false, 5, 6, 5)]
    public async Task What_version_0_1_saved_is_found_by_its_ids_where_they_can_be_positions(bool arePositions, params int[] ids)
    {
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        using (var cache = new KvCache(engine.Cache.Geometry, engine.Cache.Options))
        using (KvSequence sequence = cache.CreateSequence())
        {
            Append(sequence, ids);
            sequence.PositionRuns = null;
            await cache.SaveAsync(new SnapshotStore(_path), "old", [sequence]);
        }

        await engine.LoadAsync("old");
        for (int place = 0; place < ids.Length; place++)
        {
            engine.AssertHolds(arePositions && ids[place] >= 0 ? ids[place] : place, place);
        }
    }

    [Fact]
    public async Task Positions_that_no_session_can_have_are_E004()
    {
        using UltraAdaptiveKvCacheEngine engine = Persistent();
        foreach (long[] runs in (long[][])[[0, 2, 1, 1], [-1, 3], [0, 0, 5, 3], [int.MaxValue, 3], [4, 1, 5], [0, 3, 3, -1, 9, 1]])
        {
            Assert.False(TokenPositions.AreOf(runs, 3), string.Join(' ', runs));
        }

        Assert.True(TokenPositions.AreOf([int.MaxValue, 1, 4, 2], 3));
        Assert.True(TokenPositions.AreOf(TokenPositions.Fit([int.MaxValue, 1, 4, 2], 5), 5));
        using (var cache = new KvCache(engine.Cache.Geometry, engine.Cache.Options))
        using (KvSequence sequence = cache.CreateSequence())
        {
            Append(sequence, [0, 1, 2]);
            Assert.Throws<ArgumentException>(() => sequence.PositionRuns = [5, 2, 6, 1]);
            sequence.State.PositionRuns = [5, 2, 6, 1];
            await cache.SaveAsync(new SnapshotStore(_path), "bent", [sequence]);
        }

        Assert.Equal("E004", (await Assert.ThrowsAsync<KvCorruptionException>(() => engine.LoadAsync("bent"))).Code);
        Assert.Empty(engine.Sessions);
    }

    // Tokens of the seeds 0, 1, 2, ... under ids.
    private static void Append(KvSequence sequence, int[] ids)
    {
        using KvStep step = sequence.Begin(ids);
        step.Append(0, ids.SelectMany((_, place) => Key(place)).ToArray(), ids.SelectMany((_, place) => Value(place)).ToArray());
        step.Commit();
    }

    [Fact]
    public async Task What_a_tenant_converts_is_the_tenants()
    {
        await File.WriteAllTextAsync(Path.Combine(_path, "old_cache.pkl"), "old");
        var (acme, other) = (new KvSessionKey("s", "acme"), new KvSessionKey("s", "other"));
        KvCacheConfig config = Config(c =>
        {
            Persist(c);
            c.Tenancy.MultiTenant = true;
        });
        using var engine = new UltraAdaptiveKvCacheEngine(config) { Importers = [new OldFile()] };
        engine.PutMany(0, 2, acme);
        await engine.SaveAsync("makes the store", acme);
        KvRestored restored = await engine.LoadAsync("old_cache.pkl", acme);
        Assert.All(restored.Sequences, sequence => Assert.Equal("acme", sequence.Options.Tenant));
        await engine.SaveAsync("new", acme);
        await engine.LoadAsync("new", acme);
        engine.AssertHolds(1, 101, acme);
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => engine.LoadAsync("new", other));
    }

    private UltraAdaptiveKvCacheEngine Persistent(Action<KvCacheConfig>? change = null) => Engine(c =>
    {
        Persist(c);
        change?.Invoke(c);
    });

    private void Persist(KvCacheConfig config) => (config.Persistence.EnablePersistence, config.Persistence.PersistencePath) = (true, _path);

    /// <summary>Three tokens of the seeds 100.., without ids, where the file says "old".</summary>
    private sealed class OldFile : ISnapshotImporter
    {
        public string Name => "old";

        public bool CanRead(ReadOnlySpan<byte> firstBytes) => firstBytes.SequenceEqual("old"u8);

        public ImportedCache Read(Stream file, CancellationToken cancellationToken) => new()
        {
            Layers = 1,
            KvHeads = Heads,
            KeyWidth = Width,
            ValueWidth = Width,
            Sequences =
            [
                new ImportedSequence
                {
                    Id = "old",
                    Tokens = 3,
                    ReadLayer = (_, first, tokens, keys, values) =>
                    {
                        for (int token = 0; token < tokens; token++)
                        {
                            Key(100 + first + token).CopyTo(keys[(token * Token)..]);
                            Value(100 + first + token).CopyTo(values[(token * Token)..]);
                        }
                    },
                },
            ],
        };
    }
}
