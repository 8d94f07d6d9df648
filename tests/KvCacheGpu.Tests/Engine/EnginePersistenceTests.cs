using static KvCacheGpu.Tests.EngineSamples;

namespace KvCacheGpu.Tests;

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
