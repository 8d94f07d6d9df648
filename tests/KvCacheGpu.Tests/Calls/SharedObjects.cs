using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>What two threads call at the same time, with content that follows from token ids, so that what belongs to someone else shows.</summary>
internal sealed class SharedObjects : IDisposable
{
    public const string North = "north";
    public const string South = "south";
    public const int FirstId = 1_000_000;
    public const int SecondId = 2_000_000;
    public const int ThirdId = 3_000_000;
    public const int UntouchedId = 4_000_000;
    public const int NorthSession = 5_000_000;
    public const int SouthSession = 6_000_000;
    public const int IdsOfOne = 1_000_000;
    public const int Prompt = 14;

    private const int SessionTokens = 9;

    private readonly List<IDisposable> _made = [];
    private readonly long _emptyBytes;
    private readonly long _stepBytes;
    private readonly string _untouched;
    private long _late;
    private int _position = SessionTokens;
    private int _name;
    private StrongBox<KvStep> _step = new();

    public SharedObjects(CallSetting setting, string storePath)
    {
        Setting = setting;
        KvCacheOptions options = setting.Options();
        options.MemoryBudgetBytes = CacheCreation.BytesFor(G, options, Tier).BudgetBytes * setting.BudgetPercent / 100;
        var config = new KvCacheConfig
        {
            Compression = { UseCompression = false },
            Persistence = { EnablePersistence = true, PersistencePath = storePath },
            Tenancy = { MultiTenant = true },
            MaxTokens = options.MaxTokens,
            ConfigureOptions = engines => setting.Set(engines, options.MemoryBudgetBytes),
        };
        Engine = new UltraAdaptiveKvCacheEngine(G, config, (geometry, settings) => new KvCache(geometry, settings, Tier));
        Cache = setting.IsEngines ? Engine.Cache : new KvCache(G, options, Tier);
        (_emptyBytes, _stepBytes) = Measure();
        Store = new SnapshotStore("/store", SnapshotSample.Inline, Files);
        (First, Second, Third) = (Create(North), Create(North), Create(South));
        First.FeedMany(FirstId, Prompt, 5);
        Second.FeedMany(SecondId, 6, 5);
        Third.FeedMany(ThirdId, 9, 5);
        Untouched = Create(South);
        Untouched.FeedMany(UntouchedId, 13, 5);
        Untouched.Pin(0, 13);
        _untouched = Snapshots.LiveCaches.Transcript([Untouched], scores: false);
        Empty = Create(North);
        for (int position = 0; position < SessionTokens; position++)
        {
            PutAt(position, NorthKey);
            PutAt(position, SouthKey);
        }

        SnapshotSaving.Save(Cache.State, Store, "kept", [First.State, Third.State], null, default);
        _ = OpenStep();
    }

    public static KvGeometry G => TestCaches.Tiny;

    public static KvSessionKey NorthKey { get; } = new("chat", North);

    public static KvSessionKey SouthKey { get; } = new("chat", South);

    public CallSetting Setting { get; }

    public KvCache Cache { get; }

    public UltraAdaptiveKvCacheEngine Engine { get; }

    public OneAtATimeFiles Files { get; } = new();

    public SnapshotStore Store { get; }

    public KvSequence First { get; }

    public KvSequence Second { get; }

    public KvSequence Third { get; }

    /// <summary>Nobody calls anything that changes it.</summary>
    public KvSequence Untouched { get; }

    /// <summary>Made without tokens, to begin with a prompt.</summary>
    public KvSequence Empty { get; }

    /// <summary>A position that no call has put to yet.</summary>
    public int NewPosition() => Interlocked.Increment(ref _position);

    public string NewName() => $"name {Interlocked.Increment(ref _name)}";

    /// <summary>What the call's own thread has made and another must not end.</summary>
    public T Made<T>(T made)
        where T : IDisposable
    {
        lock (_made)
        {
            _made.Add(made);
        }

        return made;
    }

    public KvSequence Create(string tenant) => Cache.CreateSequence(new KvSequenceOptions { Tenant = tenant });

    /// <summary>Opens a step of the third sequence, or takes the one that was opened last, which may have ended.</summary>
    public KvStep OpenStep()
    {
        try
        {
            if (Third.TryBegin([ThirdId, ThirdId], out KvStep step))
            {
                Volatile.Write(ref _step, new StrongBox<KvStep>(step));
            }
        }
        catch (Exception error) when (error is KvConcurrencyException or ObjectDisposedException)
        {
            // Someone else has.
        }

        return Volatile.Read(ref _step).Value;
    }

    public void PutAt(int position, KvSessionKey session)
    {
        (float[] keys, float[] values) = ContentAt(position, session);
        Engine.Put(position, keys, values, session);
    }

    public static (float[] Keys, float[] Values) ContentAt(int position, KvSessionKey session, int tokens = 1)
    {
        int[] ids = [.. Enumerable.Range((session == NorthKey ? NorthSession : SouthSession) + position, tokens)];
        return (
            [.. Enumerable.Range(0, G.Layers).SelectMany(layer => TokenContent.Keys(G, layer, ids))],
            [.. Enumerable.Range(0, G.Layers).SelectMany(layer => TokenContent.Values(G, layer, ids))]);
    }

    /// <summary>A fork, or what was loaded: of the tokens of one of these, whole.</summary>
    public void CheckOf(KvSequence sequence, params int[] firstIds)
    {
        int[] ids = sequence.TokenIds.ToArray();
        Assert.All(ids, id => Assert.True(Array.Exists(firstIds, first => id >= first && id < first + IdsOfOne), $"id {id} in a sequence of {firstIds[0]}"));
        for (int layer = 0; layer < G.Layers; layer++)
        {
            for (int head = 0; head < G.KvHeads; head++)
            {
                int[] positions = new int[ids.Length];
                float[] keys = new float[ids.Length * G.KeyWidth];
                float[] values = new float[ids.Length * G.ValueWidth];
                int count = sequence.Materialize(layer, head, positions, keys, values);
                int[] held = [.. positions.Take(count).Select(position => ids[position])];
                Near(OfHead(TokenContent.Keys(G, layer, held), head, G.KeyWidth), keys.AsSpan(0, count * G.KeyWidth), G.KeyWidth);
                Near(OfHead(TokenContent.Values(G, layer, held), head, G.ValueWidth), values.AsSpan(0, count * G.ValueWidth), G.ValueWidth);
            }
        }
    }

    /// <summary>After both threads have ended: everybody has what is theirs, nothing is left behind, and what was freed was not used.</summary>
    public void CheckAndFree()
    {
        Assert.Equal(0, Interlocked.Read(ref _late));
        if (IsAlive(() => Cache.GetPageCounts()))
        {
            Check(First, FirstId);
            Check(Second, SecondId);
            Check(Third, ThirdId);
            Check(Empty, FirstId, SecondId);
            if (IsAlive(() => _ = Untouched.Length))
            {
                Assert.Equal(_untouched, Snapshots.LiveCaches.Transcript([Untouched], scores: false));
            }

            CheckSessions();
            Array.ForEach([First, Second, Third, Untouched, Empty], sequence => sequence.Dispose());
            _made.ForEach(one => one.Dispose());
            Engine.Clear();
            Assert.True(Cache.TryClearPrefixes());
            Assert.Equal(default, Cache.GetPageCounts());
            // Steps at once leave their working memory for the next ones.
            long left = Cache.AllocatedBytes - _emptyBytes;
            Assert.True(left % _stepBytes == 0 && left >= 0 && left <= 8 * _stepBytes, $"{left} bytes are left, steps take {_stepBytes}");
        }

        Engine.Dispose();
        Cache.Dispose();
        Assert.Equal((0, 0), (Cache.AllocatedBytes, Cache.ReservedBytes));
        Assert.Equal((0, 0), (Engine.Cache.AllocatedBytes, Engine.Cache.ReservedBytes));
        Assert.Equal(0, Interlocked.Read(ref _late));
    }

    public void Dispose()
    {
        Engine.Dispose();
        Cache.Dispose();
    }

    private static bool IsAlive(Action ask) => Record.Exception(ask) is not ObjectDisposedException;

    private void Check(KvSequence sequence, params int[] firstIds)
    {
        sequence.State.Holder?.Abandon(sequence.State);
        if (IsAlive(() => _ = sequence.Length))
        {
            CheckOf(sequence, firstIds);
        }
    }

    private void CheckSessions()
    {
        if (!IsAlive(() => Engine.GetStats()))
        {
            return;
        }

        foreach (KvSessionKey session in (KvSessionKey[])[NorthKey, SouthKey])
        {
            for (int position = 0; position <= _position + 2; position++)
            {
                if (Engine.Get(position, session) is { } found)
                {
                    (float[] keys, float[] values) = ContentAt(position, session);
                    Near(keys, found.Key, G.KeyWidth);
                    Near(values, found.Value, G.ValueWidth);
                }
            }
        }
    }

    // Exact without loss; else far below what another token's vector is off by.
    public void Near(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, int width)
    {
        for (int at = 0; at < expected.Length; at += width)
        {
            double error = 0;
            double norm = 0;
            for (int i = at; i < at + width; i++)
            {
                error += Math.Pow(expected[i] - actual[i], 2);
                norm += expected[i] * expected[i];
            }

            Assert.True(Math.Sqrt(error) <= (Setting.IsExact ? 0 : 0.2 * (Math.Sqrt(norm) + 1)), $"a vector is off by {Math.Sqrt(error)} of {Math.Sqrt(norm)}");
        }
    }

    private static float[] OfHead(float[] all, int head, int width) =>
        [.. all.Chunk(width).Where((_, vector) => vector % G.KvHeads == head).SelectMany(vector => vector)];

    private (long Empty, long Step) Measure()
    {
        using KvSequence one = Cache.CreateSequence();
        using KvSequence other = Cache.CreateSequence();
        long before = Cache.AllocatedBytes;
        one.Begin([1]).Dispose();
        long first = Cache.AllocatedBytes;
        using KvStep step = one.Begin([1]);
        other.Begin([1]).Dispose();
        step.Dispose();
        long second = Cache.AllocatedBytes;
        one.Dispose();
        other.Dispose();
        Assert.Equal(before, first);
        return (Cache.AllocatedBytes - (second - first), second - first);
    }

    private KernelTier Tier(KernelShape shape, long bytes, AllocationObserver? observer)
    {
        bool isDisposed = false;
        return new HookedTier(new SimdTier(shape, bytes, SimdLevel.Auto, 1, observer), operation =>
        {
            if (Volatile.Read(ref isDisposed))
            {
                Interlocked.Increment(ref _late);
            }

            isDisposed |= operation == "disposed";
        });
    }
}

/// <summary>What the shared cache is like.</summary>
/// <param name="Name">For the reader.</param>
/// <param name="IsEngines">True if the cache is the engine's own, which reuses no prefixes.</param>
/// <param name="IsExact">True if nothing is stored in fewer bits.</param>
/// <param name="BudgetPercent">Of what a cache takes without a budget.</param>
/// <param name="Change">What else is set.</param>
internal sealed record CallSetting(string Name, bool IsEngines, bool IsExact, int BudgetPercent, Action<KvCacheOptions> Change)
{
    /// <summary>A file of a snapshot of the first sequence's first tokens.</summary>
    public string File { get; init; } = string.Empty;

    public KvCacheOptions Options()
    {
        var options = new KvCacheOptions { PrefixReuse = !IsEngines };
        Set(options, budget: null);
        return options;
    }

    /// <summary>Sets all but the reuse of prefixes, which an engine does not have.</summary>
    public void Set(KvCacheOptions options, long? budget)
    {
        (options.Device, options.MaxTokens, options.MaxSequences, options.MaxBatchTokens, options.PoisonPages) = ("cpu", 64, 16, 16, true);
        (options.KeyFormat, options.ValueFormat, options.FullPrecision, options.MemoryBudgetBytes) = (PageFormat.F32, PageFormat.F32, PageFormat.F32, budget);
        (options.ExactRollbackTokens, options.PageStatistics) = (4, true);
        Change(options);
    }

    public override string ToString() => Name;
}
