namespace KvCacheGpu;

/// <content>Which sessions there are, and whose.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    private readonly Dictionary<KvSessionKey, EngineSession> _sessions = [];
    private readonly Lock _gate = new();

    /// <summary>The sessions, in no order. Without <see cref="KvTenancyOptions.TenantIsolation"/> they name no tenant.</summary>
    public IReadOnlyList<KvSessionKey> Sessions
    {
        get
        {
            lock (_gate)
            {
                return [.. _sessions.Keys];
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

    private EngineSession FindOrCreate(KvSessionKey session)
    {
        KvSessionKey key = KeyOf(session);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_sessions.TryGetValue(key, out EngineSession? found))
            {
                KvSequence sequence = Cache.CreateSequence(new KvSequenceOptions { Tenant = key.Tenant });
                _sessions[key] = found = new EngineSession(sequence, session.Tenant);
            }

            return found;
        }
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
        if (_config.Tenancy.TenantMaxTokens is { } most && into.Tenant is { } tenant)
        {
            lock (_gate)
            {
                long held = HeldBy(tenant, except: null);
                if (held + positions.Length > most)
                {
                    throw new KvOutOfMemoryException($"quota of tenant '{tenant}'", $"at most {most} tokens", $"{held + positions.Length} tokens");
                }

                into.Pending = positions.Length;
            }
        }

        try
        {
            into.Append(positions, keys, values, queries, output);
        }
        finally
        {
            into.Pending = 0;
        }
    }

    private long HeldBy(string tenant, KvSessionKey? except) => _sessions
        .Where(pair => pair.Value.Tenant == tenant && pair.Key != except)
        .Sum(pair => (long)pair.Value.Sequence.Length + pair.Value.Pending);
}
