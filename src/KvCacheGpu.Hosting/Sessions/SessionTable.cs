namespace KvCacheGpu.Hosting;

/// <summary>The sessions by tenant and id. A session that is empty, and that nobody has or waits for, is taken out. Any thread.</summary>
internal sealed class SessionTable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<SnapshotName, Session> _sessions = [];
    private bool _isClosed;

    /// <summary>All sessions.</summary>
    public Session[] All
    {
        get
        {
            lock (_lock)
            {
                return [.. _sessions.Values];
            }
        }
    }

    /// <summary>How many there are, and where.</summary>
    public KvSessionCounts Counts
    {
        get
        {
            lock (_lock)
            {
                int rented = _sessions.Values.Count(one => one.Turn.CurrentCount == 0);
                int resident = _sessions.Values.Count(one => one.Turn.CurrentCount > 0 && one.Sequence is not null);
                return new KvSessionCounts(rented, resident, _sessions.Values.Count(one => one.Turn.CurrentCount > 0 && one.Swapped is not null));
            }
        }
    }

    /// <summary>No session is entered any longer.</summary>
    /// <returns>False if that was so already.</returns>
    public bool Close()
    {
        lock (_lock)
        {
            bool wasOpen = !_isClosed;
            _isClosed = true;
            return wasOpen;
        }
    }

    /// <summary>Waits for a session's turn; one that there is not is made. <see cref="Leave"/> follows.</summary>
    /// <exception cref="ObjectDisposedException">The table was closed, before or meanwhile.</exception>
    public async Task<Session> EnterAsync(SnapshotName key, CancellationToken cancel)
    {
        Session? session;
        lock (_lock)
        {
            ThrowIfClosed();
            if (!_sessions.TryGetValue(key, out session))
            {
                _sessions.Add(key, session = new Session(key));
            }

            session.Users++;
        }

        bool hasTurn = false;
        try
        {
            await session.Turn.WaitAsync(cancel).ConfigureAwait(false);
            hasTurn = true;
            ThrowIfClosed();
            return session;
        }
        catch
        {
            Leave(session, hasTurn);
            throw;
        }
    }

    /// <summary>Gives up a session's turn, and what was entered.</summary>
    public void Leave(Session session, bool hasTurn = true)
    {
        if (hasTurn)
        {
            session.Turn.Release();
        }

        lock (_lock)
        {
            session.Users--;
        }

        ForgetIfEmpty(session);
    }

    /// <summary>Takes a session out of which there is nothing here, and that nobody has or waits for.</summary>
    public void ForgetIfEmpty(Session session)
    {
        lock (_lock)
        {
            if (session is { Users: 0, IsEmpty: true } && _sessions.GetValueOrDefault(session.Key) == session)
            {
                _sessions.Remove(session.Key);
            }
        }
    }

    private void ThrowIfClosed()
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                throw new ObjectDisposedException(nameof(IKvSessions), "expected a host that runs, got one that has stopped");
            }
        }
    }
}
