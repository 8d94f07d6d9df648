using System.Runtime.ExceptionServices;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Hosting;

/// <summary>Keeps the sessions of one cache: brings them to the device when they are rented, sends them below when they are idle, saves them when the host stops.</summary>
internal sealed class SessionKeeper : IKvSessions, IDisposable
{
    private static readonly TimeSpan s_mostBetweenSweeps = TimeSpan.FromMinutes(1);

    private readonly SessionTable _table = new();
    private readonly KvCache _cache;
    private readonly KvSessionsOptions _options;
    private readonly SessionFolder? _folder;
    private readonly TimeProvider _clock;
    private readonly ILogger _log;
    private readonly string _shown;

    public SessionKeeper(IServiceProvider services, string name)
    {
        HostedCache hosted = services.GetRequiredKeyedService<HostedCache>(name);
        (_cache, _options, _shown) = (hosted.Cache, hosted.Options.Sessions, hosted.Shown);
        _clock = services.GetRequiredService<TimeProvider>();
        _log = Log.Of(services);
        _folder = _options.Directory is null ? null : new SessionFolder(_options, hosted, _log);
    }

    /// <inheritdoc/>
    public KvSessionCounts Counts => _table.Counts;

    /// <inheritdoc/>
    public async Task<KvSessionLease> RentAsync(string? tenant, string id, CancellationToken cancellationToken = default)
    {
        Session session = await _table.EnterAsync(KeyOf(tenant, id), cancellationToken).ConfigureAwait(false);
        try
        {
            bool isNew = await BringAsync(session, cancellationToken).ConfigureAwait(false);
            return new KvSessionLease(this, session, isNew);
        }
        catch
        {
            _table.Leave(session);
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<bool> RemoveAsync(string? tenant, string id, CancellationToken cancellationToken = default)
    {
        Session session = await _table.EnterAsync(KeyOf(tenant, id), cancellationToken).ConfigureAwait(false);
        try
        {
            bool was = !session.IsEmpty;
            Drop(session);
            return (_folder is not null && await _folder.DeleteAsync(session.Key, cancellationToken).ConfigureAwait(false)) || was;
        }
        finally
        {
            _table.Leave(session);
        }
    }

    /// <inheritdoc/>
    public Task<bool> MakeRoomAsync(CancellationToken cancellationToken = default) => MakeRoomAsync(_ => true, cancellationToken);

    /// <inheritdoc/>
    public async Task<int> SaveAsync(CancellationToken cancellationToken = default)
    {
        (int saved, ExceptionDispatchInfo? failed) = (0, null);
        foreach (Session known in _folder is null ? [] : FreeFirst())
        {
            Session session = await _table.EnterAsync(known.Key, cancellationToken).ConfigureAwait(false);
            try
            {
                saved += await SaveWhereItIsAsync(session, cancellationToken).ConfigureAwait(false) ? 1 : 0;
            }
            catch (KvCacheException e)
            {
                Log.SaveFailed(_log, e, _shown, session.Swapped?.Lengths[0] ?? session.Sequence?.Length ?? 0);
                failed ??= ExceptionDispatchInfo.Capture(e);
            }
            finally
            {
                _table.Leave(session);
            }
        }

        failed?.Throw();
        return saved;
    }

    /// <summary>Takes a session back from who had it. A new one that is empty still leaves no trace.</summary>
    public void GiveBack(Session session, bool isNew)
    {
        (session.IsChanged, session.LastUsed) = (true, _clock.GetTimestamp());
        session.ForgetIfDisposed();
        if (isNew && session.Sequence?.Length == 0)
        {
            Drop(session);
        }

        _table.Leave(session);
    }

    /// <summary>Sends idle sessions below, again and again, until it is cancelled.</summary>
    public async Task SweepUntilAsync(CancellationToken cancel)
    {
        if (_options.IdleAfter is not { } idle)
        {
            return;
        }

        TimeSpan period = TimeSpan.FromTicks(Math.Max(1 + TimeSpan.TicksPerMillisecond, Math.Min(idle.Ticks / 4, s_mostBetweenSweeps.Ticks)));
        using var timer = new PeriodicTimer(period, _clock);
        try
        {
            while (await timer.WaitForNextTickAsync(cancel).ConfigureAwait(false))
            {
                await TrySweepAsync(idle, cancel).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The host ends.
        }
    }

    /// <summary>Sends the sessions below that nobody has used for so long.</summary>
    public async Task SweepAsync(TimeSpan idle, CancellationToken cancel)
    {
        foreach (Session session in _table.All)
        {
            await TrySendAsync(session, one => _clock.GetElapsedTime(one.LastUsed) >= idle, cancel).ConfigureAwait(false);
        }
    }

    /// <summary>Saves all sessions, each once it was given back, and gives up their memory. No session is rented any longer.</summary>
    public async Task CloseAsync(CancellationToken cancel)
    {
        if (!_table.Close())
        {
            return;
        }

        (int saved, int lost) = (0, 0);
        foreach (Session session in FreeFirst())
        {
            try
            {
                // Leases are waited for as long as there is time. What nobody has is saved however late it is: others may have used up the time.
                if (!session.Turn.Wait(0, CancellationToken.None))
                {
                    await session.Turn.WaitAsync(cancel).ConfigureAwait(false);
                }
            }
            catch (OperationCanceledException e)
            {
                Log.SaveFailed(_log, e, _shown, 0);
                lost++;
                continue;
            }

            bool? isSaved = await TrySaveLastAsync(session).ConfigureAwait(false);
            (saved, lost) = (saved + (isSaved == true ? 1 : 0), lost + (isSaved == false ? 1 : 0));
            session.Turn.Release();
        }

        Log.Closed(_log, _shown, saved, lost);
    }

    /// <inheritdoc/>
    public void Dispose() => _folder?.Dispose();

    private async Task TrySweepAsync(TimeSpan idle, CancellationToken cancel)
    {
        try
        {
            await SweepAsync(idle, cancel).ConfigureAwait(false);
        }
#pragma warning disable CA1031 // Whatever a device or a disk says: the sessions stay where they are, and the next time may go better.
        catch (Exception e) when (!cancel.IsCancellationRequested)
#pragma warning restore CA1031
        {
            Log.SweepFailed(_log, e, _shown);
        }
    }

    // First those that nobody has, and of them those on the device: at the end they leave the room that those in host memory need on their way.
    private Session[] FreeFirst() => [.. _table.All.OrderBy(one => one.Turn.CurrentCount == 0).ThenBy(one => one.Sequence is null)];

    private async Task<bool> SaveWhereItIsAsync(Session session, CancellationToken cancel)
    {
        if (session.IsEmpty || !session.IsChanged)
        {
            return false;
        }

        bool wasBelow = session.Swapped is not null;
        await BringAsync(session, cancel).ConfigureAwait(false);
        await _folder!.SaveAsync(session, cancel).ConfigureAwait(false);
        if (wasBelow && session.Sequence is { } sequence)
        {
            await SendAsync(session, sequence, cancel).ConfigureAwait(false);
        }

        return true;
    }

    private static SnapshotName KeyOf(string? tenant, string id)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        var key = new SnapshotName(id, tenant);
        key.Check();
        return key;
    }

    // Null: there was nothing to save.
    private async Task<bool?> TrySaveLastAsync(Session session)
    {
        try
        {
            if (_folder is null || session.IsEmpty || !session.IsChanged)
            {
                return null;
            }

            await BringAsync(session, CancellationToken.None).ConfigureAwait(false);
            await _folder!.SaveAsync(session, CancellationToken.None).ConfigureAwait(false);
            return true;
        }
#pragma warning disable CA1031 // Whatever it is, the other sessions are saved.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Log.SaveFailed(_log, e, _shown, session.Swapped?.Lengths[0] ?? 0);
            return false;
        }
        finally
        {
            Drop(session);
        }
    }

    /// <summary>Brings a session to the device, whose turn the caller has.</summary>
    /// <returns>True if there was none.</returns>
    private async Task<bool> BringAsync(Session session, CancellationToken cancel)
    {
        session.ForgetIfDisposed();
        while (true)
        {
            try
            {
                return session.Sequence is null && await TryBringAsync(session, cancel).ConfigureAwait(false);
            }
            catch (KvOutOfMemoryException e) when (e.Shortage.Resource is KvResource.Sequences or KvResource.BudgetBytes or KvResource.SlabBytes or KvResource.TenantBytes or KvResource.TenantTokens)
            {
                bool isQuotas = e.Shortage.Resource is KvResource.TenantBytes or KvResource.TenantTokens;
                if (!await MakeRoomAsync(other => !isQuotas || other.Key.Tenant == session.Key.Tenant, cancel).ConfigureAwait(false))
                {
                    Log.Refused(_log, e, _shown, e.Shortage.Resource);
                    throw;
                }
            }
        }
    }

    private async Task<bool> TryBringAsync(Session session, CancellationToken cancel)
    {
        if (session.Swapped is { } swapped)
        {
            session.Sequence = (await _cache.SwapInAsync(swapped, cancel).ConfigureAwait(false))[0];
            session.Swapped = null;
            return false;
        }

        if (_folder is not null && await _folder.LoadAsync(session.Key, cancel).ConfigureAwait(false) is { } loaded)
        {
            (session.Sequence, session.IsChanged) = (loaded, false);
            return false;
        }

        session.Sequence = _cache.CreateSequence(new KvSequenceOptions { Tenant = session.Key.Tenant });
        session.Sequence.Name = session.Key.Name;
        return true;
    }

    private async Task<bool> MakeRoomAsync(Func<Session, bool> mayGo, CancellationToken cancel)
    {
        foreach (Session session in _table.All.Where(one => one.Sequence is not null && mayGo(one)).OrderBy(one => one.LastUsed))
        {
            if (await TrySendAsync(session, _ => true, cancel).ConfigureAwait(false))
            {
                return true;
            }
        }

        return false;
    }

    // Sends a session below that nobody has.
    private async Task<bool> TrySendAsync(Session session, Func<Session, bool> mayGo, CancellationToken cancel)
    {
        if (!session.Turn.Wait(0, CancellationToken.None))
        {
            return false;
        }

        try
        {
            return session.Sequence is { } sequence && mayGo(session) && await SendAsync(session, sequence, cancel).ConfigureAwait(false);
        }
        finally
        {
            session.Turn.Release();
            _table.ForgetIfEmpty(session);
        }
    }

    private async Task<bool> SendAsync(Session session, KvSequence sequence, CancellationToken cancel)
    {
        try
        {
            session.Swapped = await _cache.SwapOutAsync([sequence], cancel).ConfigureAwait(false);
            session.Sequence = null;
            Log.SwappedOut(_log, _shown, session.Key.Name, session.Key.Tenant, session.Swapped.Bytes);
            return true;
        }
        catch (ObjectDisposedException)
        {
            session.ForgetIfDisposed();
            return session.Sequence is null;
        }
        catch (KvConcurrencyException)
        {
            // Somebody has given it back with a step open.
            return false;
        }
        catch (KvCacheException e) when (e is KvOutOfMemoryException or KvUnsupportedException)
        {
            // No room in host memory, or merged pages, which are not swapped: the folder is below.
            return _folder is not null && await SendToFolderAsync(session, sequence, cancel).ConfigureAwait(false);
        }
    }

    private async Task<bool> SendToFolderAsync(Session session, KvSequence sequence, CancellationToken cancel)
    {
        try
        {
            await _folder!.SaveAsync(session, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is KvCacheException or ObjectDisposedException)
        {
            Log.SaveFailed(_log, e, _shown, sequence.Length);
            return false;
        }

        Drop(session);
        return true;
    }

    private static void Drop(Session session)
    {
        session.Sequence?.Dispose();
        session.Swapped?.Dispose();
        (session.Sequence, session.Swapped) = (null, null);
    }
}
