using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The keys and values of many sequences on one device, in pages. Makes sequences; owns the arena that their pages lie in.
/// </summary>
/// <remarks>
/// Members may be called from any thread, also beside <see cref="Dispose"/>; what reads or changes sequences or pages throws
/// <see cref="ObjectDisposedException"/> after it.
/// </remarks>
public sealed partial class KvCache : IDisposable, IAsyncDisposable
{
    private readonly KvSequence?[] _sequences;
    private readonly Stack<StepMemory> _idleSteps = new();
    private readonly BudgetPlan _plan;
    private readonly MemoryLedger _ledger;
    private readonly PageScrub _scrub;
    private readonly long _stepBytes;
    private readonly long _slabBytesOfBudget = long.MaxValue;
    private readonly string? _layerFormats;
    private long _budget;
    private volatile bool _disposed;
    private bool _givenBack;

    internal KvCache(KvGeometry geometry, KvCacheOptions? config, TierFactory createTier, AllocationObserver? observer = null, KvDeviceInfo? device = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        Settings = (config ?? new KvCacheOptions()).Copy();
        (Geometry, Device) = (geometry, device ?? KvDevice.Resolve("cpu"));
        Classes = Settings.ClassesFor(geometry);
        KernelShape shape = Classes.Shape;
        _plan = new BudgetPlan(Classes, Settings, Settings.BudgetFor(geometry) is null ? 0 : TierBytes(Settings, shape, createTier));
        _layerFormats = Settings.LayerFormatsText(geometry);
        _sequences = new KvSequence?[Settings.MaxSequences];
        _ledger = new MemoryLedger(observer);
        int slabs;
        if (_plan.Configured is { } budget)
        {
            slabs = _plan.SlabsWithin(budget);
            _slabBytesOfBudget = _plan.SlabBytesWithin(budget);
        }
        else
        {
            slabs = _plan.Addressable(_plan.SlabsForMaxTokens());
        }

        try
        {
            Tier = createTier(shape, _plan.Map.Bytes + (slabs * _plan.Slabs.Bytes), _ledger.Add);
        }
        catch (OutOfMemoryException e)
        {
            throw new KvOutOfMemoryException("arena", $"{_plan.Map.Bytes + (slabs * _plan.Slabs.Bytes)} bytes of device memory", "less", e);
        }

        try
        {
            _ledger.Add(AllocationKind.Bookkeeping, _plan.Map.Bytes);
            Pool = new PagePool(_plan.Slabs, _plan.Map.FirstPageUnit, slabs, _ledger);
            Eviction = Settings.Policy is { } policy ? new EvictionPlan(this, policy, _ledger) : null;
            _scrub = new PageScrub(Tier, DeviceGate, Pool, Settings.PoisonPages);
            Prefixes = Settings.PrefixReuse ? new PrefixPages(_plan.Blocks(slabs), shape, Pool, _ledger, Settings.PrefixEvents, Classes.IsExact) : null;
            long before = _ledger.Live;
            _idleSteps.Push(NewStepMemory());
            _stepBytes = _ledger.Live - before;
        }
        catch
        {
            Eviction?.Dispose();
            Prefixes?.Dispose();
            Pool?.Dispose();
            Tier.Dispose();
            throw;
        }

        _budget = _plan.Configured ?? _plan.Unbudgeted(slabs, _ledger.Live);
    }

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry { get; }

    /// <summary>
    /// Part of the pages' share of a configured budget that a plan brings them down to, above 0 and at most 1. Begins as
    /// <see cref="KvCacheOptions.Watermark"/>; a new value holds from the next plan on.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Not above 0, or above 1.</exception>
    public double Watermark
    {
        get => Settings.Watermark;
        set => Settings.Watermark = value is > 0 and <= 1 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "expected above 0, at most 1");
    }

    /// <summary>A copy of what the cache was made with; changing it has no effect.</summary>
    public KvCacheOptions Options => Settings.Copy();

    /// <summary>The name of the kernels at work, as reports print it: "simd-512".</summary>
    public string TierName => Tier.Name;

    /// <summary>Bytes of the arena, reserved when the cache was made: tables and page slots.</summary>
    public long ReservedBytes => _ledger.Reserved;

    /// <summary>
    /// Bytes in use: live pages, tables, bookkeeping and the working memory of steps. Never above <see cref="BudgetBytes"/>. With
    /// <see cref="KvCacheOptions.PrefixReuse"/>, pages that no sequence holds any longer count until their slots are needed; see <see cref="CachedBytes"/>.
    /// </summary>
    public long AllocatedBytes => _ledger.Live;

    /// <summary>
    /// What <see cref="AllocatedBytes"/> may reach. Without a configured budget, all pages in use; steps at once beyond the first then
    /// add their working memory.
    /// </summary>
    public long BudgetBytes => Interlocked.Read(ref _budget);

    internal KvCacheOptions Settings { get; }

    internal PageClasses Classes { get; }

    internal KernelTier Tier { get; }

    internal PagePool Pool { get; }

    /// <summary>Signs of the keys' rotation.</summary>
    internal float[] KeySigns => field ??= Rotation.Signs(Geometry.KeyWidth, Settings.RotationSeed);

    /// <summary>What can be hit; null without prefix reuse.</summary>
    internal PrefixPages? Prefixes { get; }

    /// <summary>Held around reads and rewrites of pages outside of launches.</summary>
    internal Lock DeviceGate { get; } = new();

    /// <summary>
    /// Looks through keys and values in host memory, before anything is done with them, for numbers that a step would refuse. It is for a host that
    /// would rather not make a sequence for them.
    /// </summary>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="tokens">Tokens.</param>
    /// <exception cref="KvNonFiniteException">E004: there is one. It names the first.</exception>
    /// <exception cref="ArgumentException">Fewer elements than so many tokens have, or less than 1 token.</exception>
    public void ThrowIfRefused(ReadOnlySpan<float> keys, ReadOnlySpan<float> values, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(tokens, 1);
        long vectors = (long)Geometry.Layers * tokens * Geometry.KvHeads;
        ThrowIfShorter(keys.Length, vectors * Geometry.KeyWidth, nameof(keys));
        ThrowIfShorter(values.Length, vectors * Geometry.ValueWidth, nameof(values));
        FiniteCheck.ThrowIfRefused(Tier.Shape, keys[..(int)(vectors * Geometry.KeyWidth)], values[..(int)(vectors * Geometry.ValueWidth)], tokens);
    }

    /// <summary>Makes an empty sequence.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or no room for its bookkeeping.</exception>
    public KvSequence CreateSequence() => CreateSequence(KvSequenceOptions.Default);

    /// <summary>Makes an empty sequence of a tenant, with an adapter.</summary>
    /// <param name="options">Whose it is, and what its prefixes are shared within.</param>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or no room for its bookkeeping.</exception>
    /// <exception cref="ArgumentException">Retention ranges overlap or are out of range.</exception>
    public KvSequence CreateSequence(KvSequenceOptions options) => CreateSequence(options, isHeld: false);

    /// <summary>The same; a held one is inside a call from its first moment on, so that no plan and no snapshot sees it half made.</summary>
    internal KvSequence CreateSequence(KvSequenceOptions options, bool isHeld)
    {
        ArgumentNullException.ThrowIfNull(options);
        RetentionMap? retention = options.Retention is null ? null : new RetentionMap(options.Retention);
        BlockHash root = Prefixes is null ? default : NamespaceOf(options).ToHash();
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            int slot = Array.IndexOf(_sequences, null);
            if (slot < 0)
            {
                throw new KvOutOfMemoryException("sequence", $"at most {_sequences.Length} live", "one more");
            }

            long room = _budget - _ledger.Live + Pool.CachedBytes;
            if (_plan.SequenceBytes() > room)
            {
                throw new Refusal("bookkeeping of a sequence", room, _plan.SequenceBytes(), "bytes").ToException();
            }

            MakeRoom(default, _plan.SequenceBytes());
            PrefixChain? chain = null;
            DeadTokens? dead = null;
            SequenceScores? scores = null;
            try
            {
                chain = Prefixes is null ? null : new PrefixChain(Prefixes, Tier.Shape, root, retention, _ledger);
                dead = Settings.MergePages ? new DeadTokens(Tier.Shape, _ledger) : null;
                scores = Settings.Policy is { } policy ? new SequenceScores(Tier, policy, Needs, slot, _ledger) : null;
                var table = new PageTable(Tier, Classes, Pool, _scrub, slot, OwnerOf(options.Tenant))
                {
                    WritesSquares = Needs.Has(KvStatistics.Queries),
                    Dead = dead,
                };
                _sequences[slot] = new KvSequence(this, options, table, chain, scores, isHeld);
                _ledger.Add(AllocationKind.Bookkeeping, TokenIdBytes);
                return _sequences[slot]!;
            }
            catch
            {
                // A policy's own code may have thrown.
                chain?.Dispose();
                dead?.Dispose();
                scores?.Dispose();
                throw;
            }
        }
    }

    /// <summary>Makes a batch of sequences that step together.</summary>
    /// <param name="sequences">Live sequences of this cache, each once; at least one.</param>
    /// <exception cref="ArgumentException">No sequence, one twice, or one of another cache.</exception>
    public KvBatch CreateBatch(params ReadOnlySpan<KvSequence> sequences)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (sequences.IsEmpty)
        {
            throw new ArgumentException("expected at least 1 sequence, got 0", nameof(sequences));
        }

        for (int i = 0; i < sequences.Length; i++)
        {
            ArgumentNullException.ThrowIfNull(sequences[i], nameof(sequences));
            sequences[i].ThrowIfDisposed();
            if (sequences[i].Cache != this)
            {
                throw new ArgumentException($"expected sequences of this cache, got one of another at {i}", nameof(sequences));
            }

            if (sequences[..i].Contains(sequences[i]))
            {
                throw new ArgumentException($"expected each sequence once, got one again at {i}", nameof(sequences));
            }
        }

        return new KvBatch(this, sequences.ToArray());
    }

    /// <summary>Counts live pages, those counted that only stay for prefix reuse.</summary>
    public KvPageCounts GetPageCounts()
    {
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return CountPages();
        }
    }

    /// <summary>
    /// Disposes every sequence and gives the memory back. Waits for calls of other threads that are inside; steps under way are abandoned, loads
    /// and saves that are under way end with <see cref="ObjectDisposedException"/>, as do calls that come later.
    /// </summary>
    /// <exception cref="KvConcurrencyException">
    /// E006: called from inside of a call on the cache, as a policy or a progress report could; nothing was disposed.
    /// </exception>
    public void Dispose()
    {
        foreach (KvSequence? sequence in _sequences)
        {
            sequence?.ThrowIfInside();
        }

        lock (Pool.Gate)
        {
            // From here on no sequence and no pin comes.
            _disposed = true;
        }

        DisposeSequences();
        lock (Pool.Gate)
        {
            if (_givenBack)
            {
                return;
            }

            _givenBack = true;
            foreach (KvPrefixPin pin in _pins)
            {
                Prefixes?.Unpin(pin.Blocks);
            }

            _pins.Clear();
            foreach (StepMemory memory in _idleSteps)
            {
                memory.Dispose();
            }

            _idleSteps.Clear();
            _ledger.Add(AllocationKind.Bookkeeping, -_plan.Map.Bytes);
            Eviction?.Dispose();
            Prefixes?.Dispose();
            Pool.Dispose();
            lock (DeviceGate)
            {
                // A snapshot may still read pages.
                Tier.Dispose();
            }
        }
    }

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    // Another thread may be disposing one as well: its place is empty once all is given back.
    private void DisposeSequences()
    {
        var wait = default(SpinWait);
        for (int slot = 0; slot < _sequences.Length;)
        {
            if (Volatile.Read(ref _sequences[slot]) is { } sequence)
            {
                sequence.Dispose();
                wait.SpinOnce();
            }
            else
            {
                slot++;
            }
        }
    }

    internal static void ThrowIfOutside(int index, int count, string name)
    {
        if ((uint)index >= (uint)count)
        {
            throw new ArgumentOutOfRangeException(name, index, $"expected 0..{count - 1}, got {index}");
        }
    }

    internal static void ThrowIfShorter(long length, long needed, string name)
    {
        if (length < needed)
        {
            throw new ArgumentException($"{name}: expected at least {needed} elements, got {length}", name);
        }
    }
}
