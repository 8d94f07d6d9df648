using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Every public method of the types that threads may share, as a call on shared objects.</summary>
internal static partial class PublicCalls
{
    private static readonly Type Gone = typeof(ObjectDisposedException);
    private static readonly Type InUse = typeof(KvConcurrencyException);
    private static readonly Type NoRoom = typeof(KvOutOfMemoryException);
    private static readonly Type OutOfOrder = typeof(KvStepOrderException);
    private static readonly Type NotHere = typeof(KvUnsupportedException);
    private static readonly Type NoSuch = typeof(ArgumentException);
    private static readonly Type NotFound = typeof(KvSnapshotNotFoundException);
    private static readonly Type Cancelled = typeof(OperationCanceledException);

    public static IReadOnlyList<PublicCall> All { get; } = [.. OfCache(), .. OfSequence(), .. OfStep(), .. OfTenants(), .. OfEngine(), .. OfStore()];

    private static int[] Prompt { get; } = [.. Enumerable.Range(SharedObjects.FirstId, SharedObjects.Prompt)];

    private static KvSequenceOptions North { get; } = new() { Tenant = SharedObjects.North };

    private static IEnumerable<PublicCall> OfCache() =>
    [
        new("KvCache.get_Geometry()", x => Assert.Same(SharedObjects.G, x.Cache.Geometry)),
        new("KvCache.get_Device()", x => Assert.Equal("cpu", x.Cache.Device.Id)),
        new("KvCache.get_Accelerator()", x => Assert.Null(x.Cache.Accelerator)),
        new("KvCache.get_HasGraphs()", x => Assert.False(x.Cache.HasGraphs)),
        new("KvCache.get_DeviceName()", x => Assert.NotEmpty(x.Cache.DeviceName)),
        new("KvCache.get_Watermark()", x => Assert.InRange(x.Cache.Watermark, 0.5, 1)),
        new("KvCache.set_Watermark(Double)", x => x.Cache.Watermark = 1),
        new("KvCache.get_Options()", x => Assert.Equal(64, x.Cache.Options.MaxTokens)),
        new("KvCache.get_TierName()", x => Assert.NotEmpty(x.Cache.TierName)),
        new("KvCache.get_ReservedBytes()", x => Assert.True(x.Cache.ReservedBytes >= 0)),
        new("KvCache.get_AllocatedBytes()", x => Assert.InRange(x.Cache.AllocatedBytes, 0, x.Cache.BudgetBytes)),
        new("KvCache.get_BudgetBytes()", x => Assert.True(x.Cache.BudgetBytes > 0)),
        new("KvCache.get_CachedBytes()", x => Assert.True(x.Cache.CachedBytes >= 0), Gone),
        new("KvCache.get_ForgottenSequences()", x => Assert.Equal(0, x.Cache.ForgottenSequences)),
        new("KvCache.CreateSequence()", x => x.Cache.CreateSequence().Dispose(), Gone, NoRoom),
        new("KvCache.CreateSequence(KvSequenceOptions)", x => NewSequence(x), Gone, NoRoom, InUse),
        new("KvCache.CanAppend(ReadOnlySpan, ReadOnlySpan)", x => _ = x.Cache.CanAppend([x.First, x.Second], [2, 1]), Gone, InUse),
        new("KvCache.Begin(ReadOnlySpan, ReadOnlySpan, ReadOnlySpan, KvStream)", x => Complete(x.Cache.Begin([x.First, x.Second], FirstAndSecond, [1, 1]), FirstAndSecond), Gone, InUse, NoRoom),
        new("KvCache.TryBegin(ReadOnlySpan, ReadOnlySpan, ReadOnlySpan, KvStep, KvStream)", x =>
        {
            if (x.Cache.TryBegin([x.Second, x.First], [SharedObjects.SecondId, SharedObjects.FirstId], [1, 1], out KvStep step))
            {
                Complete(step, [SharedObjects.SecondId, SharedObjects.FirstId]);
            }
        }, Gone, InUse),
        new("KvCache.TryBegin(ReadOnlySpan, ReadOnlySpan, ReadOnlySpan, KvStep, Nullable, KvStream)", x =>
        {
            if (x.Cache.TryBegin([x.First], [SharedObjects.FirstId], [1], out KvStep step, out KvShortage? shortage))
            {
                Complete(step, [SharedObjects.FirstId]);
            }

            Assert.Equal(step == default, shortage is not null);
        }, Gone, InUse),
        new("KvCache.get_KeyScales()", x => Assert.Null(x.Cache.KeyScales)),
        new("KvCache.ReplaceKeyScales(KvKeyScales)", x => x.Cache.ReplaceKeyScales(null), Gone, typeof(KvUnsupportedException)),
        new("KvCache.Settle()", x => x.Cache.Settle(), Gone),
        new("KvCache.CheckDevice()", x => x.Cache.CheckDevice(), Gone),
        new("KvCache.GetPageCounts()", x => Assert.True(x.Cache.GetPageCounts().Open >= 0), Gone),
        new("KvCachePrefixes.TakePrefixEvents(KvCache)", x => Assert.Empty(x.Cache.TakePrefixEvents()), Gone),
        new("KvCachePrefixes.TryClearPrefixes(KvCache)", x => _ = x.Cache.TryClearPrefixes(), Gone),
        new("KvCachePrefixes.PinPrefix(KvCache, KvSequenceOptions, ReadOnlySpan)", x => x.Made(x.Cache.PinPrefix(North, Prompt)), Gone),
        new("KvCacheTiers.PrefetchAsync(KvCache, KvSequenceOptions, ReadOnlyMemory, CancellationToken)", x =>
            Assert.InRange(x.Cache.PrefetchAsync(North, Prompt).AsTask().GetAwaiter().GetResult(), 0, SharedObjects.Prompt), Gone),
        new("KvCacheTiers.BackUpAsync(KvCache, CancellationToken)", x => x.Cache.BackUpAsync().GetAwaiter().GetResult(), Gone),
        new("KvCacheOffload.GetOffloadCounts(KvCache)", x => Assert.True(x.Cache.GetOffloadCounts().Pages >= 0), Gone),
        new("KvCacheTiers.GetFetchCounts(KvCache)", x => Assert.True(x.Cache.GetFetchCounts().Fetched >= 0), Gone),
        new("KvCacheSwapping.GetSwappedBytes(KvCache)", x => Assert.True(x.Cache.GetSwappedBytes() >= 0)),
        new("KvCacheSwapping.SwapOutAsync(KvCache, IReadOnlyCollection, CancellationToken)", x => SwapOut(x).Dispose(), Gone, NoRoom, InUse),
        new("KvCacheSwapping.SwapInAsync(KvCache, KvSwapped, CancellationToken)", SwapIn, Gone, NoRoom, InUse),
        new("KvCacheSnapshots.SaveAsync(KvCache, SnapshotStore, SnapshotName, IReadOnlyCollection, IProgress, CancellationToken)", SaveSome, Gone, typeof(KvStoreBusyException)),
        new("KvCacheSnapshots.LoadAsync(KvCache, SnapshotStore, SnapshotName, IReadOnlyCollection, IProgress, CancellationToken)", LoadKept, Gone, NoRoom, InUse),
        new("KvCacheSnapshots.LoadSnapshotFileAsync(KvCache, String, SnapshotOptions, IProgress, CancellationToken)", LoadFile, Gone, NoRoom, NotFound, InUse),
        new("KvCacheSnapshots.ImportAsync(KvCache, ImportedCache, String, IProgress, CancellationToken)", Import, Gone, NoRoom, InUse),
        new("KvCache.ThrowIfRefused(ReadOnlySpan, ReadOnlySpan, Int32)", x => x.Cache.ThrowIfRefused(new float[1024], new float[1024], 1)),
        new("KvCache.BytesFor(KvGeometry, KvCacheOptions)", _ => Assert.True(KvCache.BytesFor(SharedObjects.G, TestCaches.Config()).BudgetBytes > 0)),
        new("KvCache.LayoutsFor(KvGeometry, KvCacheOptions)", _ => Assert.NotEmpty(KvCache.LayoutsFor(SharedObjects.G, TestCaches.Config()).Sealed)),
        new("KvCache.Dispose()", x => x.Cache.Dispose()),
        new("KvCache.DisposeAsync()", x => x.Cache.DisposeAsync().AsTask().GetAwaiter().GetResult()),
    ];

    private static IEnumerable<PublicCall> OfTenants() =>
    [
        new("KvAdmission.get_FreeTokens(KvCache)", x => Assert.True(x.Cache.FreeTokens >= 0), Gone),
        new("KvAdmission.CanHold(KvCache, Int32, String)", x => Assert.False(x.Cache.CanHold(65, SharedObjects.North)), Gone),
        new("KvAdmission.CanHold(KvSequence, Int32)", x => Assert.False(x.First.CanHold(65)), Gone, InUse),
        new("KvCacheTenants.SetTenantQuota(KvCache, String, KvTenantQuota)", x => x.Cache.SetTenantQuota(x.NewName(), new KvTenantQuota { Tokens = 5 }), Gone),
        new("KvCacheTenants.GetTenantUsage(KvCache, String)", x => Assert.True(x.Cache.GetTenantUsage(SharedObjects.North).Tokens >= 0), Gone),
        new("KvCacheTenants.GetTenantUsages(KvCache)", x => Assert.All(x.Cache.GetTenantUsages(), usage => Assert.True(usage.Sequences > 0)), Gone),
    ];

    private static IEnumerable<PublicCall> OfStore() =>
    [
        new("SnapshotStore.get_StorePath()", x => Assert.Equal("/store", x.Store.StorePath)),
        new("SnapshotStore.Recognises(ReadOnlySpan)", _ => Assert.False(SnapshotStore.Recognises("no snapshot"u8))),
        new("SnapshotStore.Save(SnapshotName, SnapshotContent, SnapshotPageReader, IProgress, CancellationToken)", x =>
        {
            var sample = SnapshotSample.Create(5);
            x.Store.Save("made up too", sample.Content, sample.Read);
        }, typeof(KvStoreBusyException)),
        new("SnapshotStore.SaveAsync(SnapshotName, SnapshotContent, SnapshotPageReader, IProgress, CancellationToken)", x =>
        {
            var sample = SnapshotSample.Create(3);
            x.Store.SaveAsync("made up", sample.Content, sample.Read).GetAwaiter().GetResult();
        }, typeof(KvStoreBusyException)),
        new("SnapshotStore.DeleteAsync(SnapshotName, CancellationToken)", x =>
        {
            var sample = SnapshotSample.Create(4);
            SnapshotName name = x.NewName();
            x.Store.SaveAsync(name, sample.Content, sample.Read).GetAwaiter().GetResult();
            x.Store.DeleteAsync(name).GetAwaiter().GetResult();
        }, typeof(KvStoreBusyException)),
        new("SnapshotStore.ListAsync(CancellationToken)", x => Assert.Contains(x.Store.ListAsync().GetAwaiter().GetResult(), info => info.Name?.Name == "kept")),
        new("SnapshotStore.VerifyAsync(SnapshotName, CancellationToken)", x =>
            Assert.All(x.Store.VerifyAsync("kept").GetAwaiter().GetResult(), verdict => Assert.Null(verdict.Error))),
        new("SnapshotStore.LoadAsync(SnapshotName, ISnapshotTarget, IProgress, CancellationToken)", x =>
        {
            var target = new KeptTarget();
            x.Store.LoadAsync("kept", target).GetAwaiter().GetResult();
            Assert.True(target.IsComplete);
        }),
        new("SnapshotStore.Load(SnapshotName, Action, CancellationToken)", x => x.Store.Load("kept", Read)),
        new("SnapshotStore.LoadFile(String, Action, CancellationToken)", x => x.Store.LoadFile(StoreNames.Of("kept").Current, Read)),
        new("SnapshotStore.OpenAsync(SnapshotName, IProgress, CancellationToken)", x => Read(x.Store.OpenAsync("kept").GetAwaiter().GetResult())),
        new("SnapshotStore.InspectAsync(SnapshotName, CancellationToken)", x => Read(x.Store.InspectAsync("kept").GetAwaiter().GetResult())),
        new("SnapshotStore.BackupAsync(String, IProgress, CancellationToken)", x =>
            Assert.NotEmpty(x.Store.BackupAsync("/backup").GetAwaiter().GetResult()), typeof(KvStoreBusyException), NotFound),
        new("SnapshotStore.RestoreAsync(String, IProgress, CancellationToken)", x =>
            Assert.NotEmpty(x.Store.RestoreAsync("/store").GetAwaiter().GetResult()), typeof(KvStoreBusyException), NotFound),
    ];

    private static void NewSequence(SharedObjects x)
    {
        using KvSequence sequence = x.Cache.CreateSequence(North);
        sequence.FeedMany(SharedObjects.FirstId, 6, 4);
        x.CheckOf(sequence, SharedObjects.FirstId);
    }

    private static KvSwapped SwapOut(SharedObjects x)
    {
        KvSequence sequence = x.Cache.CreateSequence(North);
        try
        {
            sequence.FeedMany(SharedObjects.FirstId, 6, 4);
            return x.Cache.SwapOutAsync([sequence]).GetAwaiter().GetResult();
        }
        finally
        {
            sequence.Dispose();
        }
    }

    private static void SwapIn(SharedObjects x)
    {
        using KvSwapped swapped = SwapOut(x);
        using KvSequence sequence = x.Cache.SwapInAsync(swapped).GetAwaiter().GetResult()[0];
        x.CheckOf(sequence, SharedObjects.FirstId);
    }

    // Sequences that others change, each between two of its calls. Not the third: a save waits for a step that is open, and nobody here ends that one.
    private static void SaveSome(SharedObjects x)
    {
        SnapshotName name = x.NewName();
        x.Cache.SaveAsync(x.Store, name, [x.First, x.Second, x.Empty]).GetAwaiter().GetResult();
        using OpenSnapshot saved = x.Store.OpenAsync(name).GetAwaiter().GetResult();
        Assert.Null(saved.Content.FirstFlaw());
    }

    private static void LoadKept(SharedObjects x)
    {
        IReadOnlyList<KvSequence> loaded = x.Cache.LoadAsync(x.Store, "kept").GetAwaiter().GetResult().Sequences;
        try
        {
            x.CheckOf(loaded[0], SharedObjects.FirstId);
            x.CheckOf(loaded[1], SharedObjects.ThirdId);
        }
        finally
        {
            Array.ForEach([.. loaded], sequence => sequence.Dispose());
        }
    }

    private static void LoadFile(SharedObjects x)
    {
        KvRestored restored = x.Cache.LoadSnapshotFileAsync(x.Setting.File).GetAwaiter().GetResult();
        KvSequence sequence = Assert.Single(restored.Sequences);
        using (sequence)
        {
            x.CheckOf(sequence, SharedObjects.FirstId);
        }
    }

    private static void Import(SharedObjects x)
    {
        int[] ids = [.. Enumerable.Range(SharedObjects.FirstId, 6)];
        KvRestored restored = x.Cache.ImportAsync(Computed(SharedObjects.G, ids), "calls").GetAwaiter().GetResult();
        using KvSequence sequence = Assert.Single(restored.Sequences);
        x.CheckOf(sequence, SharedObjects.FirstId);
    }

    private static ImportedCache Computed(KvGeometry g, int[] ids) => new()
    {
        Layers = g.Layers,
        KvHeads = g.KvHeads,
        KeyWidth = g.KeyWidth,
        ValueWidth = g.ValueWidth,
        Sequences =
        [
            new ImportedSequence
            {
                Id = "imported",
                Tenant = SharedObjects.North,
                Tokens = ids.Length,
                TokenIds = ids,
                ReadLayer = (layer, first, tokens, keys, values) =>
                {
                    TokenContent.Keys(g, layer, ids.AsSpan(first, tokens)).CopyTo(keys);
                    TokenContent.Values(g, layer, ids.AsSpan(first, tokens)).CopyTo(values);
                },
            },
        ],
    };

    private static void Read(OpenSnapshot snapshot)
    {
        using (snapshot)
        {
            byte[] bytes = new byte[snapshot.Content.PageBytes];
            snapshot.Read(0, bytes);
            Assert.Contains(bytes, one => one != 0);
        }
    }
}
