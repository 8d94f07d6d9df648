using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The keys and values of many sequences on one device, in pages. Makes sequences; owns the arena that their pages lie in.
/// </summary>
/// <remarks>
/// Thread safety: members may be called from any thread, also beside <see cref="Dispose"/>; those that read or change sequences or pages throw
/// <see cref="ObjectDisposedException"/> after it.
/// </remarks>
public sealed class KvCache : IDisposable, IAsyncDisposable
{
    private readonly CacheDevice? _device;
    private bool _givenBack;

    /// <summary>Makes a cache and reserves its memory on the device of the options.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range, does not fit the geometry, or the budget is below the minimum that it names.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public KvCache(KvGeometry geometry, KvCacheOptions? options = null)
        : this(geometry, options ??= new KvCacheOptions(), CacheDevice.Of(geometry, options))
    {
    }

    /// <summary>Makes a cache on an accelerator of the host's: CUDA, OpenCL, or ILGPU's CPU accelerator. Its tensors and streams can be used with the cache as they are.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults. <see cref="KvCacheOptions.Device"/> is "auto", the default, or names the accelerator's device (else E003).</param>
    /// <param name="accelerator">
    /// Borrowed: neither it nor its context is disposed with the cache. Dispose the cache first; an accelerator that is disposed before takes the cache's memory
    /// with it, and calls other than <see cref="Dispose"/> then throw <see cref="ObjectDisposedException"/>.
    /// </param>
    /// <inheritdoc cref="KvCache(KvGeometry, KvCacheOptions?)" path="/exception"/>
    public KvCache(KvGeometry geometry, KvCacheOptions? options, Accelerator accelerator)
        : this(geometry, options ??= new KvCacheOptions(), CacheDevice.Of(geometry, options, accelerator))
    {
    }

    internal KvCache(KvGeometry geometry, KvCacheOptions? options, TierFactory createTier, AllocationObserver? observer = null, KvDeviceInfo? device = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        (State, Pressure) = CacheCreation.Create(
            geometry, (options ?? new KvCacheOptions()).Copy(), createTier, observer, device ?? KvDevice.Resolve("cpu"));
        (Life, Steps) = (new SequenceLife(State, Pressure), new StepPool(State, Pressure));
    }

    private KvCache(KvGeometry geometry, KvCacheOptions options, CacheDevice device)
    {
        ((State, Pressure), _device) = (CacheCreation.Create(geometry, options.Copy(), device), device);
        (Life, Steps) = (new SequenceLife(State, Pressure), new StepPool(State, Pressure));
    }

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry => State.Geometry;

    /// <summary>The device that the cache lives on.</summary>
    public KvDeviceInfo Device => State.Device;

    /// <summary>The device's own name.</summary>
    public string DeviceName => Device.Name;

    /// <summary>
    /// The accelerator that the cache works on: the host's, or its own, which is disposed with the cache and not before; null on "cpu". On CUDA its own
    /// works in the device's primary context, as torch and the CUDA runtime do.
    /// </summary>
    public Accelerator? Accelerator => State.Tier.Accelerator;

    /// <summary>The name of the kernels at work, as reports print it: "simd-512".</summary>
    public string TierName => State.Tier.Name;

    /// <summary>A copy of the options that the cache was made with; changing it has no effect.</summary>
    public KvCacheOptions Options => State.Options.Copy();

    /// <summary>
    /// Part of the pages' share of a configured budget that a plan brings them down to, above 0 and at most 1. Begins as
    /// <see cref="KvCacheOptions.Watermark"/>; a new value holds from the next plan on.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Not above 0, or above 1.</exception>
    public double Watermark
    {
        get => State.Options.Watermark;
        set => State.Options.Watermark = value is > 0 and <= 1 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "expected above 0, at most 1");
    }

    /// <summary>Bytes of the arena, reserved when the cache was made: tables and page slots.</summary>
    public long ReservedBytes => State.Ledger.Reserved;

    /// <summary>
    /// Bytes in use: live pages, tables, bookkeeping and the working memory of steps. Never above <see cref="BudgetBytes"/>. With
    /// <see cref="KvCacheOptions.PrefixReuse"/>, pages that no sequence holds any longer count until their slots are needed; see <see cref="CachedBytes"/>.
    /// </summary>
    public long AllocatedBytes => State.Ledger.Live;

    /// <summary>
    /// Bytes that <see cref="AllocatedBytes"/> may reach. Without a configured budget, all pages in use; steps at once beyond the first then
    /// add their working memory.
    /// </summary>
    public long BudgetBytes => State.Room.BudgetBytes;

    /// <summary>
    /// Bytes of pages that no sequence holds: resident for <see cref="KvSequence.Reuse"/> until their slots are needed, least recently used first.
    /// Steps count them as free. Part of <see cref="AllocatedBytes"/>.
    /// </summary>
    public long CachedBytes => State.CachedBytes;

    /// <summary>
    /// Sequences that the runtime collected without their having been disposed (<see cref="KvCacheOptions.OnForgottenSequence"/> names them). Their memory comes
    /// back with the next call that makes a sequence or looks for room; that of one with a step under way, after the step.
    /// </summary>
    public long ForgottenSequences => State.ForgottenCount;

    internal CacheState State { get; }

    /// <summary>Evicts, in a cache with a policy; else null.</summary>
    internal Pressure? Pressure { get; }

    /// <summary>How sequences come and go.</summary>
    internal SequenceLife Life { get; }

    /// <summary>What steps run in.</summary>
    internal StepPool Steps { get; }

    /// <summary>Counts the bytes that a cache takes, without reserving its arena. Asks the device for the bytes that its kernels take beside it.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: as on creation; a budget below the minimum names it.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    public static KvCacheBytes BytesFor(KvGeometry geometry, KvCacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        using CacheDevice device = CacheDevice.Of(geometry, options ??= new KvCacheOptions());
        return CacheCreation.BytesFor(geometry, options, device.CreateTier);
    }

    /// <summary>Tells how the pages of a cache are laid out.</summary>
    /// <inheritdoc cref="BytesFor" path="/param"/>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range or does not fit the geometry.</exception>
    public static KvLayouts LayoutsFor(KvGeometry geometry, KvCacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        PageClasses classes = CacheCreation.ClassesFor(options ?? new KvCacheOptions(), geometry);
        return new KvLayouts(
            classes.Shape.Classes[KernelShape.Open],
            [.. Enumerable.Range(0, geometry.Layers).Select(layer => classes.Shape.Classes[classes.SealedIn(layer)])]);
    }

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
        Guard.ThrowIfShorter(keys.Length, vectors * Geometry.KeyWidth, nameof(keys));
        Guard.ThrowIfShorter(values.Length, vectors * Geometry.ValueWidth, nameof(values));
        FiniteCheck.ThrowIfRefused(State.Tier.Shape, keys[..(int)(vectors * Geometry.KeyWidth)], values[..(int)(vectors * Geometry.ValueWidth)], tokens);
    }

    /// <summary>Makes an empty sequence.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or no room for its bookkeeping.</exception>
    public KvSequence CreateSequence() => CreateSequence(KvSequenceOptions.Default);

    /// <summary>Makes an empty sequence of a tenant, with an adapter.</summary>
    /// <param name="options">Whose it is, and what its prefixes are shared within.</param>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or no room for its bookkeeping.</exception>
    /// <exception cref="ArgumentException">Retention ranges overlap or are out of range.</exception>
    public KvSequence CreateSequence(KvSequenceOptions options) => new(this, Life.Create(options, isHeld: false));

    /// <summary>Returns true if there is room now for a step of these sequences. Returns false if a count is 0.</summary>
    /// <inheritdoc cref="Begin" path="/param[@name!='tokenIds']"/>
    /// <exception cref="ArgumentException">No sequence, one twice, one of another cache, or not one count for each.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    public bool CanAppend(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence) => KvStep.CouldBegin(this, sequences, tokensPerSequence);

    /// <summary>Begins a step over sequences, any of this cache in any order, and reserves all that it takes. Each step may have others.</summary>
    /// <param name="sequences">The sequences, each once; at most <see cref="KvCacheOptions.MaxSequences"/>.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first; <see cref="KvCacheOptions.MaxBatchTokens"/> at most.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence, at least 1 each.</param>
    /// <returns>The step, until it is committed or disposed. Several run at once, on a thread each, if they have no sequence in common.</returns>
    /// <remarks>All is checked before anything changes: if the step is refused, every sequence is as it was, and not in use. Allocates no managed memory.</remarks>
    /// <exception cref="KvOutOfMemoryException">E001: no room for all, also after the policy evicted what it may; the tokens have changed no sequence.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <exception cref="ObjectDisposedException">One of the sequences was disposed; the message names its place.</exception>
    /// <exception cref="ArgumentException">No sequence, one twice, or one of another cache; or the counts do not fit the sequences or the ids, or are too many for one step.</exception>
    public KvStep Begin(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence) =>
        KvStep.Begin(this, sequences, tokenIds, tokensPerSequence, out KvStep step) is { } shortage ? throw new KvOutOfMemoryException(shortage) : step;

    /// <summary>Begins a step if there is room for it. See <see cref="Begin"/>.</summary>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>; the step is the default value then.</returns>
    public bool TryBegin(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, out KvStep step) =>
        TryBegin(sequences, tokenIds, tokensPerSequence, out step, out _);

    /// <summary>Begins a step if there is room for it, and says what is missing if there is not. See <see cref="Begin"/>.</summary>
    /// <param name="sequences">The sequences, each once.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence.</param>
    /// <param name="step">The step; the default value where it did not begin.</param>
    /// <param name="shortage">What was needed and what was free, after the policy evicted what it may; null if the step began. Allocates nothing.</param>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, out KvStep step, out KvShortage? shortage)
    {
        shortage = KvStep.Begin(this, sequences, tokenIds, tokensPerSequence, out step);
        return shortage is null;
    }

    /// <summary>Counts live pages, those that only stay for prefix reuse included.</summary>
    public KvPageCounts GetPageCounts()
    {
        using (State.EnterLive())
        {
            return PageCounting.Of(State.Pool, State.Classes);
        }
    }

    /// <summary>
    /// Saves sequences while they and others go on: tokens, pages bit for bit as they lie, scores, pins, segments, metadata. Once this returns,
    /// the snapshot is there, power loss or not.
    /// </summary>
    /// <param name="store">Where to.</param>
    /// <param name="name">
    /// The snapshot's name. A snapshot that has the name already becomes the generation before. Under a tenant's name only the tenant's sequences are saved;
    /// one of no tenant is the host's own, and takes anyone's.
    /// </param>
    /// <param name="sequences">Which; null, the default, takes all that live, of the name's tenant if it names one. Each is saved as it is between two of its steps.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <remarks>
    /// Waits for a step or call under way on each sequence: do not block on it while the same thread has a step open. Sealed pages are held until they
    /// were written, so that dropping them meanwhile gives their bytes a little later; open ones are copied to host memory at once. A policy's own memory
    /// (<see cref="KvPolicy.CreateState"/>), the queries that are expected, and <see cref="KvSequenceReading.PageMass"/> are not saved.
    /// </remarks>
    /// <exception cref="ArgumentException">A sequence of another cache, or of another tenant than the name's, or two of one name and tenant.</exception>
    /// <exception cref="ObjectDisposedException">A named sequence, or the cache, was disposed before its pages were written.</exception>
    /// <exception cref="KvPersistenceException">The disk refused (E005). What was there is there, unless the outcome is unknown.</exception>
    /// <exception cref="KvStoreBusyException">Another process or store is writing (E006).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved under this name (E007); it is untouched.</exception>
    public Task<SnapshotInfo> SaveAsync(
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<KvSequence>? sequences = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(store, name);
        KvSequence[]? chosen = sequences?.ToArray();
        foreach (KvSequence sequence in chosen ?? [])
        {
            ThrowIfNotMine(sequence, nameof(sequences));
            if (name.Tenant is not null && sequence.Options.Tenant is var other && other != name.Tenant)
            {
                string whose = other is null ? "of no tenant" : $"of tenant '{other}'";
                throw new ArgumentException($"expected sequences of tenant '{name.Tenant}', whose the snapshot's name is, got one {whose}", nameof(sequences));
            }
        }

        SequenceState[]? states = chosen is null ? null : Array.ConvertAll(chosen, sequence => sequence.State);
        return Task.Run(() => SnapshotSaving.Save(State, store, name, states, progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Loads sequences of a snapshot beside those that live. Verified whole first; refused, it leaves no trace. If formats, rotation or page
    /// size differ, pages are written anew, and the result says so.
    /// </summary>
    /// <param name="store">Where from.</param>
    /// <param name="name">The snapshot's name.</param>
    /// <param name="ids">Names of the sequences; null, the default, takes all.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what of them is not as it was saved.</returns>
    /// <remarks>
    /// A budget that does not hold them all is up to the policy: it drops pages of the new sequences, never of those that live. The room that steps
    /// leave free stays free, so that pages which demotions had filled to the brim want a larger budget. Prefixes are published again. On a cache that
    /// has taken fewer steps, steps go on counting from the snapshot's. A policy that learns, as the adaptive one does, begins to weigh anew.
    /// </remarks>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold them, and no policy may drop enough.</exception>
    /// <exception cref="KvSnapshotNotFoundException">There is no such snapshot, or sequence in it, or it is a tenant's and holds another's sequences (E002).</exception>
    /// <exception cref="KvConfigurationException">It is of another model, or encrypted otherwise than the store is (E003).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvUnsupportedException">Its pages cannot become pages of this cache (E009).</exception>
    public Task<KvRestored> LoadAsync(
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<string>? ids = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(store, name);
        return Task.Run(() => KvRestored.Of(this, Loading(ids).Load(store, name, progress, cancellationToken)), cancellationToken);
    }

    /// <summary>Loads the snapshot that a file of a store belongs to, from whichever of its files; see <see cref="SnapshotStore.Recognises"/>.</summary>
    /// <param name="path">The file; not a symbolic link.</param>
    /// <param name="options">How its store is read: its key. The default value is null: as <see cref="SnapshotStore"/> has it.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, as <see cref="LoadAsync"/> gives them.</returns>
    /// <exception cref="KvUnsupportedException">It is not a file of a snapshot, or no longer called as its store called it (E009).</exception>
    /// <inheritdoc cref="LoadAsync" path="/exception"/>
    public Task<KvRestored> LoadSnapshotFileAsync(
        string path, SnapshotOptions? options = null, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        State.ThrowIfDisposed();
        string whole = Path.GetFullPath(path);
        var store = new SnapshotStore(Path.GetDirectoryName(whole) ?? "/", options);
        return Task.Run(() => KvRestored.Of(this, Loading(null).LoadFile(store, Path.GetFileName(whole), progress, cancellationToken)), cancellationToken);
    }

    /// <summary>
    /// Appends sequences whose keys and values something else has computed, as if the model had: all of them, or none. A policy makes room as for any
    /// other step.
    /// </summary>
    /// <param name="found">The sequences.</param>
    /// <param name="importedBy">Who has read them; becomes <see cref="KvRestored.ImportedBy"/>.</param>
    /// <param name="progress">Told how many tokens are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what there is to say of them.</returns>
    /// <exception cref="KvConfigurationException">They are of a model of another shape or name (E003).</exception>
    /// <exception cref="KvCorruptionException">A sequence has no token, or ids for some of its tokens only (E004).</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold them.</exception>
    public Task<KvRestored> ImportAsync(
        ImportedCache found, string importedBy, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(found);
        ArgumentException.ThrowIfNullOrEmpty(importedBy);
        State.ThrowIfDisposed();
        return Task.Run(() => new SequenceImport(this, found, importedBy).Run(progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Disposes every sequence and gives the memory back, from any thread. Waits for calls of other threads that are inside; steps under way are abandoned,
    /// loads and saves that are under way end with <see cref="ObjectDisposedException"/>, as do calls that come later.
    /// </summary>
    /// <exception cref="KvConcurrencyException">
    /// E006: called from inside of a call on the cache, as a policy or a progress report could; nothing was disposed. That call goes on in the memory
    /// that would be given back, so that it cannot be ended beneath itself: dispose after it, or from another thread.
    /// </exception>
    public void Dispose()
    {
        Life.ThrowIfInsideAny();
        using (State.Pool.Gate.Enter())
        {
            // From here on no sequence and no pin comes.
            State.IsDisposed = true;
        }

        Life.DisposeAll();
        using (State.Pool.Gate.Enter())
        {
            if (!_givenBack)
            {
                _givenBack = true;
                CacheCreation.GiveBack(State, Pressure);
                _device?.Dispose();
            }
        }
    }

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    private void Check(SnapshotStore store, SnapshotName name)
    {
        ArgumentNullException.ThrowIfNull(store);
        State.ThrowIfDisposed();
        name.Check();
    }

    private void ThrowIfNotMine(KvSequence sequence, string name)
    {
        ArgumentNullException.ThrowIfNull(sequence, name);
        sequence.ThrowIfDisposed();
        if (sequence.Cache != this)
        {
            throw new ArgumentException("expected sequences of this cache, got one of another", name);
        }
    }

    private SnapshotLoading Loading(IReadOnlyCollection<string>? ids) => new(State, Life, Pressure?.Evictor, ids);
}
