namespace KvCacheGpu;

/// <content>Saving sequences, and loading them back.</content>
public sealed partial class KvCache
{
    private static readonly TimeSpan CancelPoll = TimeSpan.FromMilliseconds(20);

    private readonly Lock _capturing = new();

    /// <summary>
    /// Saves sequences while they and others go on: tokens, pages bit for bit as they lie, scores, pins, segments, metadata. Once this returns,
    /// the snapshot is there, power loss or not.
    /// </summary>
    /// <param name="store">Where to.</param>
    /// <param name="name">
    /// What it is called; what was saved under the name before becomes the generation before. Under a tenant's name only the tenant's sequences are saved;
    /// one of no tenant is the host's own, and takes anyone's.
    /// </param>
    /// <param name="sequences">Which; null, the default, takes all that live, of the name's tenant where it names one. Each is saved as it is between two of its steps.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <remarks>
    /// Waits for a step or call under way on each sequence: do not block on it while the same thread has a step open. Sealed pages are held until they
    /// were written, so that what is dropped meanwhile gives its bytes a little later; open ones are copied to host memory at once. What a policy
    /// remembers for itself (<see cref="KvPolicy.CreateState"/>), what queries to come are expected to be, and <see cref="KvSequence.PageMass"/> are not saved.
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
            ArgumentNullException.ThrowIfNull(sequence, nameof(sequences));
            sequence.ThrowIfDisposed();
            if (sequence.Cache != this)
            {
                throw new ArgumentException("expected sequences of this cache, got one of another", nameof(sequences));
            }

            if (name.Tenant is not null && sequence.Options.Tenant != name.Tenant)
            {
                string whose = sequence.Options.Tenant is { } other ? $"of tenant '{other}'" : "of no tenant";
                throw new ArgumentException($"expected sequences of tenant '{name.Tenant}', whose the snapshot's name is, got one {whose}", nameof(sequences));
            }
        }

        return Task.Run(() => Save(store, name, chosen, progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Loads sequences of a snapshot beside those that live. Verified whole first; refused, it leaves no trace. Where formats, rotation or page
    /// size differ, pages are written anew, and the result says so.
    /// </summary>
    /// <param name="store">Where from.</param>
    /// <param name="name">What it is called.</param>
    /// <param name="ids">Names of the sequences; null, the default, takes all.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what of them is not as it was saved.</returns>
    /// <remarks>
    /// A budget that does not hold them all is up to the policy: it drops pages of the new sequences, never of those that live. The room that steps
    /// leave free stays free, so that what demotions had filled to the brim wants a larger budget. Prefixes are published again. On a cache that
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
        return Task.Run(() => Load(take => store.Load(name, take, cancellationToken), ids, progress, cancellationToken), cancellationToken);
    }

    internal SnapshotInfo Save(
        SnapshotStore store, SnapshotName name, KvSequence[]? sequences, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        using CacheCapture capture = Capture(sequences, name.Tenant, cancel);
        SnapshotContent content = capture.Content;
        return content.FirstFlaw() is { } flaw
            ? throw new ArgumentException($"expected {flaw}", nameof(sequences))
            : store.Save(name, content, capture.Read, progress, cancel);
    }

    internal KvRestored Load(
        Func<Action<OpenSnapshot>, SnapshotInfo> load,
        IReadOnlyCollection<string>? ids,
        IProgress<SnapshotProgress>? progress,
        CancellationToken cancel)
    {
        KvRestored? restored = null;
        SnapshotInfo info = load(snapshot =>
        {
            RestoreCheck.Tenant(snapshot.Info, snapshot.Content);
            var restore = new CacheRestore(this, ids);
            restore.Begin(snapshot.Content);
            try
            {
                restore.ReadPages(snapshot, progress, cancel);
                cancel.ThrowIfCancellationRequested();
                restored = restore.Complete();
            }
            catch
            {
                restore.Abandon();
                throw;
            }
        });
        return restored! with { Snapshot = info };
    }

    private void Check(SnapshotStore store, SnapshotName name)
    {
        ArgumentNullException.ThrowIfNull(store);
        ObjectDisposedException.ThrowIf(_disposed, this);
        name.Check();
    }

    // One at a time: a sequence is handed to the one who waits for it.
    private CacheCapture Capture(KvSequence[]? chosen, string? tenant, CancellationToken cancel)
    {
        while (!_capturing.TryEnter(CancelPoll))
        {
            cancel.ThrowIfCancellationRequested();
        }

        var capture = new CacheCapture(this);
        try
        {
            foreach (KvSequence sequence in chosen ?? Living(tenant))
            {
                if (!sequence.EnterNext(cancel))
                {
                    // Of all that live, one that has gone meanwhile is none.
                    ObjectDisposedException.ThrowIf(chosen is not null, sequence);
                    continue;
                }

                try
                {
                    capture.Add(sequence);
                }
                finally
                {
                    sequence.LeaveHeld();
                }
            }

            return capture;
        }
        catch
        {
            capture.Dispose();
            throw;
        }
        finally
        {
            _capturing.Exit();
        }
    }

    // Of a tenant, where one is named; else all.
    private KvSequence[] Living(string? tenant)
    {
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return [.. _sequences.OfType<KvSequence>().Where(sequence => sequence.IsPublished && (tenant is null || sequence.Options.Tenant == tenant))];
        }
    }
}
