using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Hosting;

/// <summary>The folder that the sessions of a cache are saved in, each as a snapshot of one sequence. One writes at a time.</summary>
/// <param name="store">The folder.</param>
/// <param name="hosted">The cache.</param>
/// <param name="log">The host's log.</param>
internal sealed class SessionFolder(SnapshotStore store, HostedCache hosted, ILogger log) : IDisposable
{
    private readonly SemaphoreSlim _writing = new(1, 1);

    /// <summary>Loads a session; null if there is none.</summary>
    public async Task<KvSequence?> LoadAsync(SnapshotName key, CancellationToken cancel)
    {
        try
        {
            KvSequence loaded = (await hosted.Cache.LoadAsync(store, key, cancellationToken: cancel).ConfigureAwait(false)).Sequences[0];
            Log.Loaded(log, hosted.Shown, key.Name, key.Tenant, loaded.Length);
            return loaded;
        }
        catch (KvSnapshotNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Saves a session that is on the device, if it has changed.</summary>
    public async Task SaveAsync(Session session, CancellationToken cancel)
    {
        KvSequence sequence = session.Sequence!;
        if (!session.IsChanged)
        {
            return;
        }

        await _writing.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await hosted.Cache.SaveAsync(store, session.Key, [sequence], cancellationToken: cancel).ConfigureAwait(false);
        }
        finally
        {
            _writing.Release();
        }

        session.IsChanged = false;
        Log.Saved(log, hosted.Shown, session.Key.Name, session.Key.Tenant, sequence.Length);
    }

    /// <summary>Deletes what was saved of a session.</summary>
    /// <returns>False if nothing was.</returns>
    public async Task<bool> DeleteAsync(SnapshotName key, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await store.DeleteAsync(key, cancel).ConfigureAwait(false);
            return true;
        }
        catch (KvSnapshotNotFoundException)
        {
            return false;
        }
        finally
        {
            _writing.Release();
        }
    }

    public void Dispose() => _writing.Dispose();
}
