using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Hosting;

/// <summary>The folder that the sessions of a cache are saved in, each as a snapshot of one sequence. One writes at a time.</summary>
internal sealed class SessionFolder : IDisposable
{
    private const string LockName = "sessions.lock";
    private const UnixFileMode OwnersAlone = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly SnapshotStore _store;
    private readonly HostedCache _hosted;
    private readonly ILogger _log;
    private readonly FileStream _held;

    /// <summary>Takes a folder for a cache, and makes it if its parent is there. Else sessions would be lost when the host stops, which is too late to hear of it.</summary>
    /// <param name="options">The folder's path, and how snapshots are written.</param>
    /// <param name="hosted">The cache.</param>
    /// <param name="log">The host's log.</param>
    /// <exception cref="KvConfigurationException">E003: it cannot be written to, or another cache, of this process or another, has it.</exception>
    public SessionFolder(KvSessionsOptions options, HostedCache hosted, ILogger log)
    {
        (_store, _hosted, _log) = (new SnapshotStore(options.Directory!, options.Snapshots), hosted, log);
        try
        {
            Make(_store.StorePath);
            _held = new FileStream(Path.Combine(_store.StorePath, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KvConfigurationException("Sessions.Directory", "a folder that can be written to, and that no other cache has", e.Message, e);
        }
    }

    /// <summary>Loads a session; null if there is none.</summary>
    public async Task<KvSequence?> LoadAsync(SnapshotName key, CancellationToken cancel)
    {
        try
        {
            KvSequence loaded = (await _hosted.Cache.LoadAsync(_store, key, cancellationToken: cancel).ConfigureAwait(false)).Sequences[0];
            Log.Loaded(_log, _hosted.Shown, key.Name, key.Tenant, loaded.Length);
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

        // Saving would wait for a step that somebody has left open: this throws in place of that.
        sequence.Truncate(sequence.Length);
        await _writing.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await _hosted.Cache.SaveAsync(_store, session.Key, [sequence], cancellationToken: cancel).ConfigureAwait(false);
        }
        finally
        {
            _writing.Release();
        }

        session.IsChanged = false;
        Log.Saved(_log, _hosted.Shown, session.Key.Name, session.Key.Tenant, sequence.Length);
    }

    /// <summary>Deletes what was saved of a session.</summary>
    /// <returns>False if nothing was.</returns>
    public async Task<bool> DeleteAsync(SnapshotName key, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await _store.DeleteAsync(key, cancel).ConfigureAwait(false);
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

    public void Dispose()
    {
        _writing.Dispose();
        _held.Dispose();
    }

    private static void Make(string path)
    {
        if (Directory.Exists(path))
        {
            return;
        }

        if (Path.GetDirectoryName(path) is { } parent && !Directory.Exists(parent))
        {
            throw new DirectoryNotFoundException($"there is no {parent}");
        }

        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, OwnersAlone);
        }
    }
}
