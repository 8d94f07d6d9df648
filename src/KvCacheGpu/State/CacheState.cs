using System.Runtime.ExceptionServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Everything that the sequences of one cache share: what it was made with, the arena's pages and who may take them, the prefix index, the sequences
/// themselves. Data and invariants alone; verbs are in the rooms above.
/// </summary>
internal sealed class CacheState
{
    private readonly SequenceState?[] _sequences;
    private readonly Lock _telling = new();
    private volatile bool _isDisposed;
    private SequenceState? _forgotten;
    private long _forgottenCount;
    private int[]? _windowed;
    private long _lastSequence;

    public CacheState(KvCacheOptions options, PageClasses classes, CacheCounts counts)
    {
        (Options, Classes, Needs) = (options, classes, options.Needs);
        _sequences = new SequenceState?[options.MaxSequences];
        Tenants = new Tenants(options.TenantQuotas);
        Counts = counts;
        Swapped = new SwapRoom(options.SwapBudgetBytes, counts);
    }

    /// <summary>The settings that the cache was made with; only <see cref="KvCacheOptions.Watermark"/> changes.</summary>
    public KvCacheOptions Options { get; }

    /// <summary>Layouts of the pages.</summary>
    public PageClasses Classes { get; }

    /// <summary>Tokens that one sequence may have, dropped ones counted.</summary>
    public int MaxSequenceTokens => Options.LongestSequence;

    /// <summary>Statistics that plans ask for.</summary>
    public KvStatistics Needs { get; }

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry => Classes.Shape.Geometry;

    /// <summary>The device that it lives on.</summary>
    public required KvDeviceInfo Device { get; init; }

    /// <summary>The kernels at work, and the arena.</summary>
    public required KernelTier Tier { get; init; }

    /// <summary>Every byte taken and given back.</summary>
    public required MemoryLedger Ledger { get; init; }

    /// <summary>The arena's pages.</summary>
    public required PagePool Pool { get; init; }

    /// <summary>Answers whether something fits.</summary>
    public required Room Room { get; init; }

    /// <summary>Writes pages.</summary>
    public required PageWriter Writer { get; init; }

    /// <summary>Reads pages.</summary>
    public required PageReader Reader { get; init; }

    /// <summary>The blocks that can be found again; null without prefix reuse.</summary>
    public required PrefixPages? Prefixes { get; init; }

    /// <summary>The scales of keys in T formats; null if no page comes into one.</summary>
    public KeyScaling? Scaling { get; set; }

    /// <summary>Host memory for pages that the policy lets go; null without <see cref="KvCacheOptions.Offload"/>.</summary>
    public Offloading? Offload { get; set; }

    /// <summary>Formats by layer where layers differ, as prefixes' namespaces say them; else null.</summary>
    public required string? LayerFormats { get; init; }

    /// <summary>Bytes of bookkeeping of one sequence.</summary>
    public required SequenceSize SequenceSize { get; init; }

    /// <summary>Inside of it pages are read and rewritten outside of launches.</summary>
    public required Gate DeviceGate { get; init; }

    /// <summary>Inside of it a snapshot is captured: a sequence is handed to the one who waits for it.</summary>
    public Gate CaptureGate { get; } = new(GateOrder.Capture);

    /// <summary>Steps whose outcome was not taken over yet.</summary>
    public Unsettled Unsettled { get; } = new();

    /// <summary>Counts steps.</summary>
    public CacheClock Clock { get; } = new();

    /// <summary>What instruments are told.</summary>
    public CacheCounts Counts { get; }

    /// <summary>The tenants.</summary>
    public Tenants Tenants { get; }

    /// <summary>Host memory of sequences that were swapped out.</summary>
    public SwapRoom Swapped { get; }

    /// <summary>Pinned prefixes, by the blocks that each holds; one object for each pin.</summary>
    public HashSet<int[]> PinnedBlocks { get; } = [];

    /// <summary>True once the cache is being disposed: no sequence and no pin comes any longer.</summary>
    public bool IsDisposed
    {
        get => _isDisposed;
        set => _isDisposed = value;
    }

    /// <exception cref="ObjectDisposedException">The cache is being disposed.</exception>
    public void ThrowIfDisposed()
    {
        if (_isDisposed)
        {
            throw new ObjectDisposedException("KvCache", "expected a live cache, got one that was disposed");
        }
    }

    /// <summary>Enters the pool's gate of a cache that is not being disposed.</summary>
    /// <exception cref="ObjectDisposedException">It is.</exception>
    public Gate.Scope EnterLive()
    {
        Gate.Scope scope = Pool.Gate.Enter();
        if (_isDisposed)
        {
            scope.Dispose();
            ThrowIfDisposed();
        }

        return scope;
    }

    /// <summary>The scales that a sequence's T pages are under; null if it can have none.</summary>
    public KvKeyScales? ScalesOf(PageTable table) => Scaling?.Of(table);

    /// <summary>The namespace that a sequence's prefixes are shared within.</summary>
    /// <param name="options">Whose the sequence is.</param>
    /// <param name="scales">The scales that its pages are under; null, or a table of zeros, if they are not scaled.</param>
    public PrefixNamespace NamespaceOf(KvSequenceOptions options, KvKeyScales? scales) => new()
    {
        ModelFingerprint = Options.ModelFingerprint,
        Adapter = options.Adapter,
        Tenant = options.Tenant,
        Salt = options.Salt,
        KeyFormat = Options.KeyFormat,
        ValueFormat = Options.ValueFormat,
        LayerFormats = LayerFormats,
        RotationSeed = Options.RotationSeed,
        PageTokens = Geometry.PageTokens,
        KeyScales = scales is { IsNone: false } && Scaling?.SealsScaled == true ? scales.Fingerprint : null,
    };

    /// <summary>Bytes of pages that no sequence holds, of a cache that is not being disposed.</summary>
    public long CachedBytes
    {
        get
        {
            using (EnterLive())
            {
                return Pool.CachedBytes;
            }
        }
    }

    /// <summary>Places of sequences, live or not.</summary>
    public int Places => _sequences.Length;

    /// <summary>True if the step that commits next is one that pages are scored by.</summary>
    public bool IsSampled => (Needs & (KvStatistics.Mass | KvStatistics.Queries)) != 0 && Clock.NextStep % Options.ScoreEvery == 0;

    /// <summary>The sequence at a place, or null.</summary>
    public SequenceState? SequenceAt(int place) => Volatile.Read(ref _sequences[place]);

    /// <summary>An id that no sequence of the cache has had, from 1 on. The caller is inside of the pool's gate.</summary>
    public long NextSequenceId() => ++_lastSequence;

    /// <summary>Places that no sequence has. The caller is inside of the pool's gate.</summary>
    public int FreePlaces() => _sequences.AsSpan().Count((SequenceState?)null);

    /// <summary>The first place that no sequence has, or -1. The caller is inside of the pool's gate.</summary>
    public int FreePlace() => Array.IndexOf(_sequences, null);

    /// <summary>Puts a sequence into its place, or takes it out. The caller is inside of the pool's gate.</summary>
    public void Seat(int place, SequenceState? sequence) => Volatile.Write(ref _sequences[place], sequence);

    /// <summary>Sequences whose handles were collected without having been disposed.</summary>
    public long ForgottenCount => Interlocked.Read(ref _forgottenCount);

    /// <summary>Tells of a step that was refused, or that the device failed, after its host had gone on: once for all its sequences.</summary>
    /// <exception cref="KvNonFiniteException">E004: there is one that nobody was told of.</exception>
    public void ThrowIfRefused()
    {
        Exception? failure = null;
        lock (_telling)
        {
            for (int place = 0; place < Places; place++)
            {
                if (SequenceAt(place) is { Failure: { } found } sequence && (failure ?? found) == found && sequence.TakeFailure(found))
                {
                    failure = found;
                }
            }
        }

        if (failure is not null)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>Notes a sequence whose handle is gone. Called by finalizers: it takes no gate and no memory.</summary>
    public void Forget(SequenceState sequence)
    {
        if (!sequence.Gate.IsDisposed)
        {
            Interlocked.Increment(ref _forgottenCount);
            PutBackForgotten(sequence);
        }
    }

    /// <summary>Lists a forgotten sequence again that could not be given back yet.</summary>
    public void PutBackForgotten(SequenceState sequence)
    {
        SequenceState? first;
        do
        {
            first = Volatile.Read(ref _forgotten);
            sequence.NextForgotten = first;
        }
        while (Interlocked.CompareExchange(ref _forgotten, sequence, first) != first);
    }

    /// <summary>Takes the whole list of forgotten sequences: the first, from which <see cref="SequenceState.NextForgotten"/> leads on.</summary>
    public SequenceState? TakeForgotten() => Volatile.Read(ref _forgotten) is null ? null : Interlocked.Exchange(ref _forgotten, null);

    /// <summary>True if a layer was attended to through a window: there it matters which positions a page is of.</summary>
    public bool HasWindow(int layer) => _windowed is { } windowed && Volatile.Read(ref windowed[layer]) != 0;

    /// <summary>Notes that a layer is attended to, through a window if there is one. Only merging asks for it.</summary>
    public void NoteWindow(int layer, int window)
    {
        if (window > 0 && Options.MergePages)
        {
            Volatile.Write(ref LazyInitializer.EnsureInitialized(ref _windowed, () => new int[Geometry.Layers])[layer], 1);
        }
    }
}
