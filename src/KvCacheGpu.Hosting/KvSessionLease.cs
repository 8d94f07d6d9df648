namespace KvCacheGpu.Hosting;

/// <summary>A session that was rented (<see cref="IKvSessions.RentAsync"/>): its sequence is this one's alone until the lease is disposed.</summary>
/// <remarks>Thread safety: it is used by one thread at a time, as its sequence is. End every lease, best with <c>await using</c>, and every step before it.</remarks>
public sealed class KvSessionLease : IAsyncDisposable
{
    private readonly Session _session;
    private SessionKeeper? _keeper;

    internal KvSessionLease(SessionKeeper keeper, Session session, bool isNew) => (_keeper, _session, IsNew) = (keeper, session, isNew);

    /// <summary>Whose it is, or null.</summary>
    public string? Tenant => _session.Key.Tenant;

    /// <summary>Its id.</summary>
    public string Id => _session.Key.Name;

    /// <summary>True if there was no such session before.</summary>
    public bool IsNew { get; }

    /// <summary>The sequence. A host that disposes it gives up what the session has become since it was saved last.</summary>
    /// <exception cref="ObjectDisposedException">The lease was disposed.</exception>
    public KvSequence Sequence
    {
        get
        {
            ObjectDisposedException.ThrowIf(_keeper is null, this);
            return _session.Sequence!;
        }
    }

    /// <summary>Gives the session back, for the next who waits for it. Does nothing the second time.</summary>
    public ValueTask DisposeAsync()
    {
        Interlocked.Exchange(ref _keeper, null)?.GiveBack(_session, IsNew);
        return ValueTask.CompletedTask;
    }
}
