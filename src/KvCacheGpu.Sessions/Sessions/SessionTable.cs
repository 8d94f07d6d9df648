namespace KvCacheGpu;

/// <summary>
/// The sessions of an engine, by key, and the quotas of their tenants. Thread-safe. A session is entered by its gate; the table's own gate is only
/// held for moments, and never while a session's gate is waited for.
/// </summary>
internal sealed class SessionTable(KvCache cache, KvCacheConfig config)
{
    private readonly Dictionary<KvSessionKey, EngineSession> _sessions = [];
    private readonly Lock _gate = new();
    private readonly CallTurns _turns = new();
    private bool _isClosed;

    /// <summary>The keys of all sessions that hold tokens, or held some, in no order.</summary>
    public IReadOnlyList<KvSessionKey> Keys
    {
        get
        {
            lock (_gate)
            {
                return [.. _sessions.Where(pair => !pair.Value.IsTentative).Select(pair => pair.Key)];
            }
        }
    }

    /// <summary>The sessions of <see cref="Keys"/>. Enter one to look at it.</summary>
    public EngineSession[] All()
    {
        lock (_gate)
        {
            ThrowIfClosed();
            return [.. _sessions.Values.Where(session => !session.IsTentative)];
        }
    }

    /// <summary>The key that a session is kept by.</summary>
    /// <exception cref="ArgumentException">A tenant where there are none, or none where there are.</exception>
    public KvSessionKey KeyOf(KvSessionKey session)
    {
        if (config.Tenancy.MultiTenant != session.Tenant is not null)
        {
            throw new ArgumentException(
                config.Tenancy.MultiTenant ? "expected a tenant, as multi_tenant says, got none" : $"expected no tenant without multi_tenant, got '{session.Tenant}'", nameof(session));
        }

        return new KvSessionKey(session.Id ?? string.Empty, config.Tenancy.TenantIsolation ? session.Tenant : null);
    }

    /// <summary>Finds a session; null if there is none.</summary>
    public EngineSession? Find(KvSessionKey session)
    {
        KvSessionKey key = KeyOf(session);
        lock (_gate)
        {
            ThrowIfClosed();
            return _sessions.GetValueOrDefault(key);
        }
    }

    /// <summary>Enters the session that a call puts tokens into, and makes it if there is none. Follow with <see cref="Leave"/>.</summary>
    public EngineSession EnterOrCreate(KvSessionKey session, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, int tokens)
    {
        KvSessionKey key = KeyOf(session);
        while (true)
        {
            if (Find(session) is null)
            {
                // A call that is refused in the end shall not have taken a sequence from others meanwhile.
                cache.ThrowIfRefused(keys, values, tokens);
            }

            EngineSession found = FindOrCreate(key, session.Tenant, tokens);
            found.Gate.Enter();
            if (!found.IsDisposed)
            {
                return found;
            }

            // It was cleared, or given up, while this call waited.
            found.Gate.Exit();
        }
    }

    /// <summary>Leaves a session. A refused call leaves no session behind that was made for it.</summary>
    public void Leave(EngineSession session, KvSessionKey key)
    {
        if (session.IsTentative)
        {
            lock (_gate)
            {
                if (_sessions.GetValueOrDefault(KeyOf(key)) == session)
                {
                    _sessions.Remove(KeyOf(key));
                }
            }

            session.Dispose();
        }

        session.Gate.Exit();
    }

    /// <summary>Appends to a session that was entered, as <see cref="EngineSession.Append"/> does, within its tenant's quota.</summary>
    public void Append(
        EngineSession into, int[] positions, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, ReadOnlySpan<float> queries, Span<float> output)
    {
        lock (_gate)
        {
            // What a session is about to append counts already, so that two of one tenant cannot pass together.
            ThrowIfOverQuota(into.Tenant, positions.Length, except: null);
            into.Tokens += positions.Length;
        }

        try
        {
            for (bool isDone = false, alone = false; !isDone; alone = true)
            {
                using CallTurns.Turn turn = _turns.Enter(alone);
                try
                {
                    into.Append(positions, keys, values, queries, output);
                    isDone = true;
                }
                catch (KvOutOfMemoryException refused) when (refused.IsTransient && !alone)
                {
                    // Another call has the working memory.
                }
            }
        }
        finally
        {
            lock (_gate)
            {
                into.Tokens = into.Sequence.Length;
            }
        }
    }

    /// <summary>Attends in every layer of a session that was entered.</summary>
    public void Attend(EngineSession over, ReadOnlySpan<float> query, Span<float> output)
    {
        int layer = 0;
        for (bool alone = false; layer < cache.Geometry.Layers; alone = true)
        {
            using CallTurns.Turn turn = _turns.Enter(alone);
            try
            {
                for (; layer < cache.Geometry.Layers; layer++)
                {
                    over.Attend(layer, query, output);
                }
            }
            catch (KvOutOfMemoryException refused) when (refused.IsTransient && !alone)
            {
                // Another call has the working memory.
            }
        }
    }

    /// <summary>Puts loaded sequences in the place of sessions that are there, or disposes them.</summary>
    /// <param name="restored">The sequences.</param>
    /// <param name="key">The session that a single one becomes; several become sessions of their own ids and this one's tenant.</param>
    /// <param name="tenant">Who loads them.</param>
    /// <exception cref="KvSnapshotNotFoundException">E002: they are another tenant's.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the tenant's quota.</exception>
    public void Adopt(KvRestored restored, KvSessionKey key, string? tenant)
    {
        var replaced = new List<EngineSession>();
        EngineSession[] loaded = [.. restored.Sequences.Select(sequence => new EngineSession(sequence, tenant))];
        lock (_gate)
        {
            try
            {
                ThrowIfNotAdoptable(restored, key, tenant);
            }
            catch
            {
                Array.ForEach(loaded, session => session.Dispose());
                throw;
            }

            foreach (EngineSession session in loaded)
            {
                KvSessionKey own = loaded.Length == 1 ? key : key with { Id = session.Sequence.Name };
                if (_sessions.Remove(own, out EngineSession? before))
                {
                    replaced.Add(before);
                }

                _sessions[own] = session;
            }
        }

        replaced.ForEach(Drop);
    }

    /// <summary>Drops a session and gives its memory back.</summary>
    /// <returns>True if there was one.</returns>
    public bool Clear(KvSessionKey session)
    {
        KvSessionKey key = KeyOf(session);
        EngineSession? found;
        lock (_gate)
        {
            if (!_sessions.TryGetValue(key, out found))
            {
                return false;
            }

            ThrowIfInside(found);
            _sessions.Remove(key);
        }

        Drop(found);
        return true;
    }

    /// <summary>Drops every session.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of one; none was dropped.</exception>
    public void Clear()
    {
        EngineSession[] all;
        lock (_gate)
        {
            all = [.. _sessions.Values];
            Array.ForEach(all, ThrowIfInside);
            _sessions.Clear();
        }

        // Not under the gate: a call inside a session takes it to ask for its tenant's quota.
        Array.ForEach(all, Drop);
    }

    /// <summary>Disposes the cache with every session, after the calls that are inside of one; none comes any more.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a session or of the cache; nothing was disposed.</exception>
    public void Close()
    {
        EngineSession[] all;
        bool wasClosed;
        lock (_gate)
        {
            all = [.. _sessions.Values];
            Array.ForEach(all, ThrowIfInside);
            (wasClosed, _isClosed) = (_isClosed, true);
        }

        int entered = 0;
        try
        {
            for (; entered < all.Length; entered++)
            {
                all[entered].Gate.Enter();
            }

            cache.Dispose();
            Array.ForEach(all, session => session.Dispose());
            lock (_gate)
            {
                _sessions.Clear();
            }
        }
        catch (KvConcurrencyException)
        {
            // A policy that plans in a step of the host's own, or of a load: no session is inside, and the cache refused.
            lock (_gate)
            {
                _isClosed = wasClosed;
            }

            throw;
        }
        finally
        {
            foreach (EngineSession session in all.AsSpan(0, entered))
            {
                session.Gate.Exit();
            }
        }
    }

    private static void ThrowIfInside(EngineSession session)
    {
        if (session.Gate.IsHeldByCurrentThread)
        {
            throw new KvConcurrencyException("session in use", "a call from outside of a call on the session", "one from inside of it");
        }
    }

    private static void Drop(EngineSession session)
    {
        lock (session.Gate)
        {
            session.Dispose();
        }
    }

    private EngineSession FindOrCreate(KvSessionKey key, string? tenant, int tokens)
    {
        lock (_gate)
        {
            ThrowIfClosed();
            if (!_sessions.TryGetValue(key, out EngineSession? found))
            {
                ThrowIfOverQuota(tenant, tokens, except: null);
                KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = key.Tenant });
                _sessions[key] = found = new EngineSession(sequence, tenant) { IsTentative = true };
            }

            return found;
        }
    }

    private void ThrowIfClosed() => ObjectDisposedException.ThrowIf(_isClosed, typeof(UltraAdaptiveKvCacheEngine));

    // The gate is held.
    private void ThrowIfNotAdoptable(KvRestored restored, KvSessionKey key, string? tenant)
    {
        ThrowIfClosed();
        foreach (KvSequence sequence in restored.Sequences)
        {
            // A foreign file is nobody's; a snapshot's file is its tenant's, by whatever path it comes.
            if (sequence.Options.Tenant != key.Tenant && (restored.ImportedBy is null || sequence.Options.Tenant is not null))
            {
                throw new KvSnapshotNotFoundException("the snapshot", "one of this tenant", "one of another");
            }
        }

        ThrowIfOverQuota(tenant, restored.Sequences.Sum(sequence => (long)sequence.Length), except: restored.Sequences.Count == 1 ? key : (KvSessionKey?)null);
    }

    // The gate is held.
    private void ThrowIfOverQuota(string? tenant, long tokens, KvSessionKey? except)
    {
        if (config.Tenancy.TenantMaxTokens is { } most && tenant is not null)
        {
            long held = tokens + _sessions.Where(pair => pair.Value.Tenant == tenant && pair.Key != except).Sum(pair => pair.Value.Tokens);
            if (held > most)
            {
                throw new KvOutOfMemoryException(new KvShortage("a session", KvResource.TenantTokens, tokens, most - (held - tokens)) { Tenant = tenant });
            }
        }
    }
}
