using System.Runtime.ExceptionServices;
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
    private readonly MeasuredCache _measured;
    private bool _givenBack;

    /// <summary>Makes a cache and reserves its memory on the device of the options.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range, does not fit the geometry, or the budget is below the minimum that it names.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCache']/*"/>
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

    internal KvCache(
        KvGeometry geometry, KvCacheOptions? options, TierFactory createTier, AllocationObserver? observer = null, KvDeviceInfo? device = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        (State, Pressure) = CacheCreation.Create(
            geometry, (options ?? new KvCacheOptions()).Copy(), createTier, observer, device ?? KvDevice.Resolve("cpu"));
        (Life, Steps, Tiers) = (new SequenceLife(State, Pressure), new StepPool(State, Pressure), CacheTiers.Of(State));
        MeasuredCaches.Add(_measured = new MeasuredCache(State, Tiers));
    }

    /// <summary>Makes a cache on a device that is its own from now on; <paramref name="ofPart"/> are its classes where it is a part of a group.</summary>
    internal KvCache(KvGeometry geometry, KvCacheOptions options, CacheDevice device, PageClasses? ofPart = null)
    {
        ((State, Pressure), _device) = (CacheCreation.Create(geometry, options.Copy(), device, ofPart), device);
        (Life, Steps, Tiers) = (new SequenceLife(State, Pressure), new StepPool(State, Pressure), CacheTiers.Of(State));
        MeasuredCaches.Add(_measured = new MeasuredCache(State, Tiers));
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

    /// <summary>True if steps can be captured in graphs and replayed (<see cref="KvStep.BeginCapture"/>): on CUDA devices.</summary>
    public bool HasGraphs => State.Tier.HasGraphs;

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

    /// <summary>
    /// The scales that keys in T formats are under from now on; null where no page comes into a T format, and while they are not learned yet: that happens in the commit that
    /// seals the first page into a T format after every layer was attended to with 16 tokens. It waits for the device, once. From then on they stay.
    /// </summary>
    /// <remarks>
    /// A host may keep them, for the next cache of the same model (<see cref="KvCacheOptions.KeyScales"/>). Sequences whose first such page comes before enough queries were
    /// seen, as of a prompt that the host attended to by itself, have scales of 1. A sequence keeps the scales that its first T page had, also in snapshots and forks.
    /// </remarks>
    public KvKeyScales? KeyScales => State.Scaling?.Current;

    internal CacheState State { get; }

    /// <summary>Evicts, in a cache with a policy; else null.</summary>
    internal Pressure? Pressure { get; }

    /// <summary>How sequences come and go.</summary>
    internal SequenceLife Life { get; }

    /// <summary>What steps run in.</summary>
    internal StepPool Steps { get; }

    /// <summary>What goes to lower tiers and comes from there; null without any.</summary>
    internal CacheTiers? Tiers { get; }

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
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCache.CreateSequence']/*"/>
    public KvSequence CreateSequence(KvSequenceOptions options) => new(this, Life.Create(options, isHeld: false));

    /// <summary>Returns true if there is room now for a step of these sequences. Returns false if a count is 0.</summary>
    /// <inheritdoc cref="Begin" path="/param[@name!='tokenIds']"/>
    /// <exception cref="ArgumentException">No sequence, one twice, one of another cache, or not one count for each.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCache.CanAppend']/*"/>
    public bool CanAppend(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence) => KvStep.CouldBegin(this, sequences, tokensPerSequence);

    /// <summary>Begins a step over sequences, any of this cache in any order, and reserves all that it takes. Each step may have others.</summary>
    /// <param name="sequences">The sequences, each once; at most <see cref="KvCacheOptions.MaxSequences"/>.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first; <see cref="KvCacheOptions.MaxBatchTokens"/> at most.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence, at least 1 each.</param>
    /// <param name="stream">The stream of the device that all work of the step is enqueued on. The default value: the default stream of the device.</param>
    /// <returns>The step, until it is committed or disposed. Several run at once, on a thread each, if they have no sequence in common.</returns>
    /// <remarks>All is checked before anything changes: if the step is refused, every sequence is as it was, and not in use. Allocates no managed memory.</remarks>
    /// <exception cref="KvOutOfMemoryException">E001: no room for all, also after the policy evicted what it may; the tokens have changed no sequence.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <exception cref="KvNonFiniteException">E004: an earlier step on one of the sequences, committed by <see cref="KvStep.EnqueueCommit"/>, was refused and has been rolled back.</exception>
    /// <exception cref="ObjectDisposedException">One of the sequences, or the stream, was disposed; the message names the place of a sequence.</exception>
    /// <exception cref="ArgumentException">
    /// No sequence, one twice, or one of another cache; or the counts do not fit the sequences or the ids, or are too many for one step; or a stream of
    /// another device or context.
    /// </exception>
    /// <exception cref="KvUnsupportedException">E009: a stream, and the pages live in host memory.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCache.Begin']/*"/>
    public KvStep Begin(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, KvStream stream = default) =>
        TryBegin(sequences, tokenIds, tokensPerSequence, out KvStep step, out KvShortage? shortage, stream) ? step : throw new KvOutOfMemoryException(shortage!.Value);

    /// <summary>Begins a step if there is room for it. See <see cref="Begin"/>.</summary>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>; the step is the default value then.</returns>
    public bool TryBegin(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, out KvStep step, KvStream stream = default) =>
        TryBegin(sequences, tokenIds, tokensPerSequence, out step, out _, stream);

    /// <summary>Begins a step if there is room for it, and says what is missing if there is not. See <see cref="Begin"/>.</summary>
    /// <param name="sequences">The sequences, each once.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence.</param>
    /// <param name="step">The step; the default value where it did not begin.</param>
    /// <param name="shortage">What was needed and what was free, after the policy evicted what it may; null if the step began. Allocates nothing.</param>
    /// <param name="stream">The stream of the step.</param>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, out KvStep step, out KvShortage? shortage,
        KvStream stream = default)
    {
        shortage = KvStep.Begin(this, sequences, tokenIds, tokensPerSequence, stream, out step);
        if (shortage is { } lack)
        {
            State.Counts.CountRefusal(lack);
        }

        return shortage is null;
    }

    /// <summary>
    /// Waits for the device and takes over the outcome of every step that was committed by <see cref="KvStep.EnqueueCommit"/>. Does nothing if there is none.
    /// </summary>
    /// <exception cref="KvNonFiniteException">E004: one of them was refused and has been rolled back. Told once; call again for the next one.</exception>
    public void Settle()
    {
        State.ThrowIfDisposed();
        State.Unsettled.SettleAll();
        State.ThrowIfRefused();
    }

    /// <summary>
    /// Changes <see cref="KeyScales"/>, as after a change of weights. Sequences that had pages in T formats keep the scales that they have until they are cut to nothing; all others are
    /// under the new ones from their first such page on.
    /// </summary>
    /// <param name="scales">The scales; null has them learned from the next pages.</param>
    /// <exception cref="ArgumentException">Scales of another shape.</exception>
    /// <exception cref="KvConcurrencyException">E006: sequences are under two other tables already, which is as many as a cache holds.</exception>
    /// <exception cref="KvUnsupportedException">E009: no page of the cache comes into a T format.</exception>
    public void ReplaceKeyScales(KvKeyScales? scales)
    {
        scales?.ThrowIfNotFor(Geometry, nameof(scales));
        using (State.EnterLive())
        {
            KeyScaling scaling = State.Scaling ?? throw new KvUnsupportedException(nameof(ReplaceKeyScales), "a cache whose pages come into T formats", "other formats");
            scaling.Replace(scales);
        }
    }

    /// <summary>Counts live pages, those that only stay for prefix reuse included.</summary>
    public KvPageCounts GetPageCounts()
    {
        using (State.EnterLive())
        {
            return PageCounting.Of(State.Pool, State.Classes);
        }
    }

    /// <summary>Reads a few bytes of the cache's memory on the device, and waits for them: for a health check.</summary>
    /// <remarks>What the driver says of a device that was lost comes out as it is: those are its own exceptions.</remarks>
    /// <exception cref="ObjectDisposedException">The cache, or a host's accelerator, was disposed.</exception>
    public void CheckDevice()
    {
        Span<int> word = stackalloc int[1];
        using (State.DeviceGate.Enter())
        {
            State.ThrowIfDisposed();
            State.Tier.Read(0, word);
        }
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
        MeasuredCaches.Remove(_measured);
        Tiers?.Dispose();
        using (State.Pool.Gate.Enter())
        {
            // From here on no sequence and no pin comes.
            State.IsDisposed = true;
        }

        ExceptionDispatchInfo? failure = Life.DisposeAll();
        using (State.Pool.Gate.Enter())
        {
            if (!_givenBack)
            {
                _givenBack = true;
                CacheCreation.GiveBack(State, Pressure);
                _device?.Dispose();
            }
        }

        failure?.Throw();
    }

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }
}
