using System.Runtime.ExceptionServices;

namespace KvCacheGpu;

/// <summary>
/// The keys and values of one model on several devices: a cache for each part of it, used as if they were one. Parts are shards of the KV heads (tensor
/// parallelism), runs of layers (a pipeline), or both; see <see cref="KvPart"/>.
/// </summary>
/// <remarks>
/// <para>
/// One step: <see cref="Begin"/> reserves in every part or in none, and <see cref="KvGroupStep.Commit"/> makes the tokens part of the sequences in every part or
/// in none. One plan: the policy sees the rows of the whole model, in the model's order, and decides once; each part carries out what concerns its rows, so that
/// a group evicts what one cache would evict that has as many bytes for its pages. One snapshot: of the whole model, which a group of other parts, or one
/// <see cref="KvCache"/>, loads.
/// </para>
/// <para>
/// The configured budget is the whole group's. Each part gets of it in proportion to its rows, (layer, KV head), and keeps its tables and working memory within
/// that share; <see cref="KvTenantQuota.Bytes"/> of tenants are divided in the same way, while <see cref="KvTenantQuota.Tokens"/> hold in each part. A step begins
/// only if every part has room. <see cref="KvCacheOptions.Device"/> is not used: parts name their devices.
/// </para>
/// <para>
/// Thread safety: members may be called from any thread; those that read or change sequences throw <see cref="ObjectDisposedException"/> after disposal. Within one
/// step different parts may be driven by different threads at once, as hosts with a thread for each device do.
/// </para>
/// </remarks>
public sealed class KvCacheGroup : IDisposable, IAsyncDisposable
{
    private readonly KvCacheOptions _options;
    private readonly MemoryLedger _ledger = new(null);

    /// <summary>Makes a cache for each part and reserves its memory on the part's device.</summary>
    /// <param name="geometry">The whole model's shape.</param>
    /// <param name="options">Options of the whole; null takes the defaults.</param>
    /// <param name="parts">The parts. Together they hold every layer and KV head once. Calls name them by their places in this list.</param>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range, the parts do not tile the model, or a part's share of the budget is below the minimum that the error names.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: a device does not have the memory.</exception>
    public KvCacheGroup(KvGeometry geometry, KvCacheOptions? options, IReadOnlyList<KvPart> parts)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentNullException.ThrowIfNull(parts);
        _options = (options ?? new KvCacheOptions()).Copy();
        OptionsCheck.Require(_options.Offload is null, nameof(_options.Offload), "none in a group", "one");
        Shape = new GroupShape(geometry, _options, parts);
        Caches = new KvCache[Shape.Parts.Count];
        try
        {
            for (int part = 0; part < Caches.Length; part++)
            {
                Caches[part] = Make(part);
            }

            if (_options.Policy is { } policy)
            {
                Eviction = new GroupEviction(Shape, policy, Caches, _ledger);
                for (int part = 0; part < Caches.Length; part++)
                {
                    Caches[part].Pressure!.Eviction = part == 0 ? Eviction : NoEviction.Instance;
                }
            }
        }
        catch
        {
            foreach (KvCache? made in Caches)
            {
                made?.Dispose();
            }

            throw;
        }

        Parts = [.. Caches.Select((cache, part) => new KvGroupPart(Shape.Parts[part], cache))];
    }

    /// <summary>The whole model's shape.</summary>
    public KvGeometry Geometry => Shape.Geometry;

    /// <summary>A copy of the options that the group was made with; changing it has no effect.</summary>
    public KvCacheOptions Options
    {
        get
        {
            KvCacheOptions copy = _options.Copy();
            copy.Watermark = Watermark;
            return copy;
        }
    }

    /// <summary>The parts, by the numbers that calls name them by.</summary>
    public IReadOnlyList<KvGroupPart> Parts { get; }

    /// <inheritdoc cref="KvCache.Watermark"/>
    public double Watermark
    {
        get => Caches[0].Watermark;
        set => Caches[0].Watermark = value;
    }

    /// <summary>
    /// The scales that keys in T formats are under from now on, of the whole model; null where no page comes into a T format, and while a part has not learned its own yet
    /// (<see cref="KvCache.KeyScales"/>).
    /// </summary>
    public KvKeyScales? KeyScales
    {
        get
        {
            bool isWhole = Array.TrueForAll(Caches, cache => cache.State.Scaling is null || cache.KeyScales is not null);
            return isWhole ? Shape.WholeOf(Array.ConvertAll(Caches, cache => cache.KeyScales)) : null;
        }
    }

    /// <summary>Changes <see cref="KeyScales"/> in every part, or in none (<see cref="KvCache.ReplaceKeyScales"/>).</summary>
    /// <param name="scales">The scales of the whole model; null has each part learn its own from the next pages.</param>
    /// <exception cref="ArgumentException">Scales of another shape.</exception>
    /// <exception cref="KvConcurrencyException">E006: sequences are under two other tables already.</exception>
    /// <exception cref="KvUnsupportedException">E009: no page of the group comes into a T format.</exception>
    /// <exception cref="ObjectDisposedException">The group was disposed.</exception>
    public void ReplaceKeyScales(KvKeyScales? scales)
    {
        scales?.ThrowIfNotFor(Geometry, nameof(scales));
        GroupScales.Replace(this, scales);
    }

    /// <summary>Bytes of the arenas of all parts.</summary>
    public long ReservedBytes => Parts.Sum(part => part.ReservedBytes);

    /// <summary>Bytes in use in all parts, and those of the memory that the group's plans are made in, which lies on the host.</summary>
    public long AllocatedBytes => Parts.Sum(part => part.AllocatedBytes) + _ledger.Live;

    /// <summary>Bytes that <see cref="AllocatedBytes"/> may reach.</summary>
    public long BudgetBytes => Parts.Sum(part => part.BudgetBytes) + _ledger.Live;

    internal GroupShape Shape { get; }

    /// <summary>Plans for all parts; null without a policy.</summary>
    internal GroupEviction? Eviction { get; }

    /// <summary>A cache for each part. The first one's sequences stand for the group's: who holds the gate of one keeps the others' as well.</summary>
    internal KvCache[] Caches { get; }

    /// <summary>Held while what was begun in every part ends in every part, so that a commit and a disposal never mix.</summary>
    internal Lock Ends { get; } = new();

    /// <summary>Makes an empty sequence, which lives in every part.</summary>
    /// <param name="options">Whose it is, and what its prefixes are shared within. The default value is null: nobody's.</param>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or a part has no room for its bookkeeping; no part has one more.</exception>
    /// <exception cref="ArgumentException">Retention ranges overlap or are out of range.</exception>
    public KvGroupSequence CreateSequence(KvSequenceOptions? options = null) =>
        KvGroupSequence.OfHeld(this, part => Caches[part].Life.Create(options ?? KvSequenceOptions.Default, isHeld: true));

    /// <summary>Begins a step over sequences in every part, and reserves all that it takes, or refuses and changes nothing.</summary>
    /// <param name="sequences">The sequences, each once; at most <see cref="KvCacheOptions.MaxSequences"/>.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first; <see cref="KvCacheOptions.MaxBatchTokens"/> at most.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence, at least 1 each.</param>
    /// <param name="streams">For each part the stream that its work is enqueued on, one of the part's device. Empty, the default, takes each device's default stream.</param>
    /// <returns>The step, until it is committed or disposed. Several run at once if they have no sequence in common.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: a part, which the message names, has no room, also after the policy evicted what it may; the tokens have changed no sequence.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <exception cref="ObjectDisposedException">One of the sequences was disposed.</exception>
    /// <exception cref="ArgumentException">No sequence, one twice, or one of another group; or the counts do not fit the sequences or the ids, or are too many for one step; or a stream is of another device than its part.</exception>
    public KvGroupStep Begin(
        ReadOnlySpan<KvGroupSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<KvStream> streams = default) =>
        KvGroupStep.Begin(this, sequences, tokenIds, tokensPerSequence, streams, out KvGroupStep? step) is { } shortage ? throw new KvOutOfMemoryException(shortage) : step!;

    /// <summary>Begins a step if there is room for it, and says what is missing if there is not. See <see cref="Begin"/>.</summary>
    /// <param name="sequences">The sequences, each once.</param>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence.</param>
    /// <param name="step">The step; null if it did not begin.</param>
    /// <param name="shortage">What a part needed and what was free in it; null if the step began.</param>
    /// <param name="streams">For each part the stream that its work is enqueued on; empty, the default, takes each device's default stream.</param>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(
        ReadOnlySpan<KvGroupSequence> sequences,
        ReadOnlySpan<int> tokenIds,
        ReadOnlySpan<int> tokensPerSequence,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out KvGroupStep? step,
        out KvShortage? shortage,
        ReadOnlySpan<KvStream> streams = default)
    {
        shortage = KvGroupStep.Begin(this, sequences, tokenIds, tokensPerSequence, streams, out step);
        return step is not null;
    }

    /// <summary>Takes the prefixes that were stored and removed since the last call, oldest first, as the first part has them; empty without <see cref="KvCacheOptions.PrefixEvents"/>.</summary>
    /// <exception cref="ObjectDisposedException">The group was disposed.</exception>
    public IReadOnlyList<PrefixEvent> TakePrefixEvents() => Caches[0].TakePrefixEvents();

    /// <summary>
    /// Saves sequences as one snapshot of the whole model, while they and others go on. A group of any parts loads it, and so does one <see cref="KvCache"/>. Pages
    /// are copied out of the parts one after the other: the snapshot is never in memory as a whole.
    /// </summary>
    /// <param name="store">Where to.</param>
    /// <param name="name">The snapshot's name; see <see cref="KvCacheSnapshots.SaveAsync"/>.</param>
    /// <param name="sequences">Which; null, the default, takes all that live, of the name's tenant if it names one. Each is saved as it is between two of its steps, in all parts.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <exception cref="ArgumentException">A sequence of another group, or of another tenant than the name's, or two of one name and tenant.</exception>
    /// <exception cref="ObjectDisposedException">A named sequence, or the group, was disposed before its pages were written.</exception>
    /// <exception cref="KvPersistenceException">The disk refused (E005). What was there is there, unless the outcome is unknown.</exception>
    /// <exception cref="KvStoreBusyException">Another process or store is writing (E006).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved under this name (E007); it is untouched.</exception>
    public Task<SnapshotInfo> SaveAsync(
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<KvGroupSequence>? sequences = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(store, name);
        KvGroupSequence[]? chosen = sequences?.ToArray();
        foreach (KvGroupSequence sequence in chosen ?? [])
        {
            ArgumentNullException.ThrowIfNull(sequence, nameof(sequences));
            sequence.ThrowIfDisposed();
            ThrowIfNotMine(sequence, nameof(sequences));
            SnapshotSaving.ThrowIfOfAnother(name, sequence.Options, nameof(sequences));
        }

        SequenceState[]? states = chosen is null ? null : Array.ConvertAll(chosen, sequence => sequence.First);
        return Task.Run(
            () =>
            {
                SnapshotInfo info = CacheOperation.Save.Run(
                    Caches[0].State.Counts, () => GroupCapture.Save(this, store, name, states, progress, cancellationToken), CacheOperation.Describe, name.Name);
                GC.KeepAlive(chosen);
                return info;
            },
            cancellationToken);
    }

    /// <summary>
    /// Loads sequences of a snapshot beside those that live, whichever parts or cache it was saved from. Verified whole first; refused, it leaves no trace in any
    /// part. Each page is read once and goes to the part that holds its row. Where formats, rotation or page size differ, pages are written anew, and the result says so.
    /// </summary>
    /// <param name="store">Where from.</param>
    /// <param name="name">The snapshot's name.</param>
    /// <param name="ids">Names of the sequences; null, the default, takes all.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what of them is not as it was saved.</returns>
    /// <remarks>A budget that does not hold them all in every part is up to the policy, as with <see cref="KvCacheSnapshots.LoadAsync"/>: it plans over the whole sequences.</remarks>
    /// <inheritdoc cref="KvCacheSnapshots.LoadAsync" path="/exception"/>
    public Task<KvGroupRestored> LoadAsync(
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<string>? ids = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(store, name);
        return Task.Run(
            () => CacheOperation.Load.Run(
                Caches[0].State.Counts,
                () => GroupRestore.Load(this, store, name, ids, progress, cancellationToken),
                (activity, found) => CacheOperation.Describe(activity, found.Snapshot),
                name.Name),
            cancellationToken);
    }

    /// <summary>
    /// Disposes every sequence and gives the memory of all parts back, from any thread. Waits for calls of other threads that are inside; steps under way are
    /// abandoned, loads and saves that are under way end with <see cref="ObjectDisposedException"/>, as do calls that come later.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the group, as a policy or a progress report could; nothing was disposed.</exception>
    public void Dispose()
    {
        foreach (KvCache cache in Caches)
        {
            cache.Life.ThrowIfInsideAny();
        }

        lock (Ends)
        {
            try
            {
                DisposeEach(Caches);
            }
            finally
            {
                Eviction?.Dispose();
            }
        }
    }

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>Disposes all of them, whatever fails; the first error is thrown at the end.</summary>
    internal static void DisposeEach(IReadOnlyList<IDisposable> parts)
    {
        ExceptionDispatchInfo? failure = null;
        foreach (IDisposable part in parts)
        {
            try
            {
                part.Dispose();
            }
            catch (Exception e)
            {
                failure ??= ExceptionDispatchInfo.Capture(e);
            }
        }

        failure?.Throw();
    }

    /// <exception cref="ArgumentException">The sequence is another group's.</exception>
    internal void ThrowIfNotMine(KvGroupSequence sequence, string parameter)
    {
        if (sequence.Group != this)
        {
            throw new ArgumentException("expected sequences of this group, got one of another", parameter);
        }
    }

    private KvCache Make(int part)
    {
        KvGeometry geometry = GroupShape.GeometryOf(Geometry, Shape.Parts[part]);
        long? budget = _options.BudgetFor(Geometry) - PlanBytes();
        KvCacheOptions options = Shape.OptionsOf(_options, part, budget);
        try
        {
            return new KvCache(geometry, options, CacheDevice.Of(geometry, options), Shape.Classes.Part(geometry, Shape.Parts[part].FirstLayer));
        }
        catch (KvConfigurationException e) when (e.Needed is { } needed && e.Free is { } free && budget is not null)
        {
            // What the whole budget has to be, so that the share is enough.
            long least = (long)Math.Ceiling((double)needed * Shape.Rows / Shape.RowsOf(part)) + PlanBytes();
            throw new KvConfigurationException(
                $"parts[{part}], {e.Setting}", $"a share of at least {needed} bytes, and so a budget of at least {least} bytes", $"a share of {free} bytes", e)
            {
                Needed = least,
                Free = _options.BudgetFor(Geometry),
                Unit = e.Unit,
            };
        }
    }

    private long PlanBytes() => _options.Policy is null ? 0 : PlanMemory.BookkeepingBytes(Shape.Classes.Shape, _options.Needs);

    private void Check(SnapshotStore store, SnapshotName name)
    {
        ArgumentNullException.ThrowIfNull(store);
        Caches[0].State.ThrowIfDisposed();
        name.Check();
    }
}

/// <summary>One part of a group, and what it takes on its device. Thread safety: members may be called from any thread.</summary>
public sealed class KvGroupPart
{
    private readonly KvCache _cache;

    internal KvGroupPart(KvPart part, KvCache cache) => (Part, _cache) = (part, cache);

    /// <summary>Its layers and KV heads.</summary>
    public KvPart Part { get; }

    /// <summary>Its shape: the tensors of its calls have its KV heads and the query heads that attend to them. Layers are named by the whole model's numbers all the same.</summary>
    public KvGeometry Geometry => _cache.Geometry;

    /// <summary>The device that it lies on.</summary>
    public KvDeviceInfo Device => _cache.Device;

    /// <inheritdoc cref="KvCache.Accelerator"/>
    public ILGPU.Runtime.Accelerator? Accelerator => _cache.Accelerator;

    /// <inheritdoc cref="KvCache.HasGraphs"/>
    public bool HasGraphs => _cache.HasGraphs;

    /// <summary>The name of the kernels at work.</summary>
    public string TierName => _cache.TierName;

    /// <inheritdoc cref="KvCache.ReservedBytes"/>
    public long ReservedBytes => _cache.ReservedBytes;

    /// <summary>Bytes in use: live pages, tables, bookkeeping and the working memory of steps. Never above <see cref="BudgetBytes"/>.</summary>
    public long AllocatedBytes => _cache.AllocatedBytes;

    /// <summary>Its share of the group's budget. Without a configured budget, the bytes of all its pages in use.</summary>
    public long BudgetBytes => _cache.BudgetBytes;

    /// <summary>Counts its live pages.</summary>
    /// <exception cref="ObjectDisposedException">The group was disposed.</exception>
    public KvPageCounts GetPageCounts() => _cache.GetPageCounts();
}
