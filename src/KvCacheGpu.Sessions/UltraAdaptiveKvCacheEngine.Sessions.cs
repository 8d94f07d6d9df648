namespace KvCacheGpu;

/// <content>Which sessions there are, and whose.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    private readonly Dictionary<KvSessionKey, EngineSession> _sessions = [];
    private readonly Lock _gate = new();
    private readonly CallTurns _turns = new();

    /// <summary>The sessions, in no order. Without <see cref="KvTenancyOptions.TenantIsolation"/> they name no tenant.</summary>
    public IReadOnlyList<KvSessionKey> Sessions
    {
        get
        {
            lock (_gate)
            {
                return [.. _sessions.Where(pair => !pair.Value.IsTentative).Select(pair => pair.Key)];
            }
        }
    }

    /// <summary>Drops a session and gives its memory back.</summary>
    /// <returns>Whether there was one.</returns>
    /// <exception cref="ArgumentException">A tenant where there are none, or none where there are.</exception>
    public bool Clear(KvSessionKey session)
    {
        session = KeyOf(session);
        EngineSession? found;
        lock (_gate)
        {
            if (!_sessions.Remove(session, out found))
            {
                return false;
            }
        }

        lock (found.Gate)
        {
            found.Dispose();
        }

        return true;
    }

    /// <summary>Drops every session.</summary>
    public void Clear()
    {
        EngineSession[] all;
        lock (_gate)
        {
            all = [.. _sessions.Values];
            _sessions.Clear();
        }

        // Outside: a call inside a session takes the gate to ask for its tenant's quota.
        foreach (EngineSession session in all)
        {
            lock (session.Gate)
            {
                session.Dispose();
            }
        }
    }

    private EngineSession? Find(KvSessionKey key)
    {
        key = KeyOf(key);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _sessions.GetValueOrDefault(key);
        }
    }

    /// <summary>The session that a call puts tokens into, made where there is none, with its gate held.</summary>
    private EngineSession EnterOrCreate(KvSessionKey session, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, int tokens)
    {
        KvSessionKey key = KeyOf(session);
        while (true)
        {
            if (Find(session) is null)
            {
                // What is refused in the end shall not have taken a sequence from others meanwhile.
                Cache.ThrowIfRefused(keys, values, tokens);
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

    private EngineSession FindOrCreate(KvSessionKey key, string? tenant, int tokens)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_sessions.TryGetValue(key, out EngineSession? found))
            {
                ThrowIfOverQuota(tenant, tokens, except: null);
                KvSequence sequence = Cache.CreateSequence(new KvSequenceOptions { Tenant = key.Tenant });
                _sessions[key] = found = new EngineSession(sequence, tenant) { IsTentative = true };
            }

            return found;
        }
    }

    // A refused call leaves no session behind that was made for it. The session's gate is held.
    private void GiveUp(EngineSession session, KvSessionKey key)
    {
        if (!session.IsTentative)
        {
            return;
        }

        lock (_gate)
        {
            if (_sessions.GetValueOrDefault(KeyOf(key)) == session)
            {
                _sessions.Remove(KeyOf(key));
            }
        }

        session.Dispose();
    }

    private KvSessionKey KeyOf(KvSessionKey session)
    {
        if (_config.Tenancy.MultiTenant != session.Tenant is not null)
        {
            throw new ArgumentException(
                _config.Tenancy.MultiTenant ? "expected a tenant, as multi_tenant says, got none" : $"expected no tenant without multi_tenant, got '{session.Tenant}'", nameof(session));
        }

        return new KvSessionKey(session.Id ?? string.Empty, _config.Tenancy.TenantIsolation ? session.Tenant : null);
    }

    // What a session is about to append counts already, so that two of a tenant's cannot pass together.
    private void AppendWithinQuota(
        EngineSession into, int[] positions, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, ReadOnlySpan<float> queries, Span<float> output)
    {
        lock (_gate)
        {
            ThrowIfOverQuota(into.Tenant, positions.Length, except: null);
            into.Tokens += positions.Length;
        }

        try
        {
            Append(into, positions, keys, values, queries, output);
        }
        finally
        {
            lock (_gate)
            {
                into.Tokens = into.Sequence.Length;
            }
        }
    }

    private void Append(
        EngineSession into, int[] positions, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, ReadOnlySpan<float> queries, Span<float> output)
    {
        for (bool alone = false; ; alone = true)
        {
            using CallTurns.Turn turn = _turns.Enter(alone);
            try
            {
                into.Append(positions, keys, values, queries, output);
                return;
            }
            catch (KvOutOfMemoryException refused) when (refused.IsTransient && !alone)
            {
                // Another call has the working memory.
            }
        }
    }

    // The gate is held.
    private void ThrowIfOverQuota(string? tenant, long tokens, KvSessionKey? except)
    {
        if (_config.Tenancy.TenantMaxTokens is { } most && tenant is not null)
        {
            long held = tokens + _sessions.Where(pair => pair.Value.Tenant == tenant && pair.Key != except).Sum(pair => pair.Value.Tokens);
            if (held > most)
            {
                throw new KvOutOfMemoryException($"quota of tenant '{tenant}'", $"at most {most} tokens", $"{held} tokens");
            }
        }
    }
}
