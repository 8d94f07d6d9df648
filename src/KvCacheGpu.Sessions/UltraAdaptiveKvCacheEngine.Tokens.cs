using System.Diagnostics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Tokens by position, and attention over them.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    private readonly CallClock _putClock = new();
    private readonly CallClock _getClock = new();
    private readonly CallClock _forwardClock = new();
    private long _hits;
    private long _misses;

    /// <summary>
    /// Stores tokens at consecutive positions. A single one may be put again: it is replaced where it lies, and no other token changes by a bit. Refused,
    /// the call has changed nothing: also a session that there was not is not there.
    /// </summary>
    /// <param name="position">The first one's, 0 or more; gaps are allowed. Keys come as the model roped them: the position is only a name.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>; how long it is says how many tokens.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="session">The session, made where there is none; the default session where none is named.</param>
    /// <exception cref="ArgumentException">No whole tokens, more than one step takes, one of several that is there already, or a wrong tenant.</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the session, the cache or the tenant's quota; nothing has changed.</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: replacing a token that a policy dropped, or one whose page was sealed into fewer bits, where tokens have their scales in common: a page or two
    /// (<see cref="KvModelOptions.BlockSize"/>) after it was put. Without compression every token can be replaced. See <see cref="KvSequence.Replace"/>.
    /// </exception>
    public void Put(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        int tokens = TokensOf(keys, Cache.Geometry.KvHeads * Cache.Geometry.KeyWidth, nameof(keys));
        ThrowIfNotOf(values, tokens, Cache.Geometry.KvHeads * Cache.Geometry.ValueWidth, nameof(values));
        int[] positions = PositionsFrom(position, tokens);
        EngineSession into = EnterOrCreate(session, keys, values, tokens);
        try
        {
            if (tokens == 1 && into.Contains(position))
            {
                into.Replace(position, keys, values);
            }
            else
            {
                ThrowIfTaken(into, positions);
                AppendWithinQuota(into, positions, keys, values, [], []);
            }
        }
        finally
        {
            GiveUp(into, session);
            into.Gate.Exit();
        }

        Note(_putClock, since);
    }

    /// <summary>Reads a token as it is stored: decoded, so that a compressed one is near to what was put, not equal.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="key">Receives <c>[layers][KV heads][key width]</c>.</param>
    /// <param name="value">Receives <c>[layers][KV heads][value width]</c>.</param>
    /// <param name="session">The session.</param>
    /// <returns>False where it was never put, or a policy dropped it in some layer and head.</returns>
    /// <exception cref="ArgumentException">A target of another length, or a wrong tenant.</exception>
    public bool TryGet(int position, Span<float> key, Span<float> value, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ThrowIfNotOf(key, 1, Cache.Geometry.KvHeads * Cache.Geometry.KeyWidth, nameof(key));
        ThrowIfNotOf(value, 1, Cache.Geometry.KvHeads * Cache.Geometry.ValueWidth, nameof(value));
        bool found = false;
        if (Find(session) is { } from)
        {
            lock (from.Gate)
            {
                found = !from.IsDisposed && from.TryRead(position, key, value);
            }
        }

        Interlocked.Increment(ref found ? ref _hits : ref _misses);
        Note(_getClock, since);
        return found;
    }

    /// <summary>The same, in new arrays; null where <see cref="TryGet"/> says false.</summary>
    public (float[] Key, float[] Value)? Get(int position, KvSessionKey session = default)
    {
        KvGeometry g = Cache.Geometry;
        float[] key = new float[g.Layers * g.KvHeads * g.KeyWidth];
        float[] value = new float[g.Layers * g.KvHeads * g.ValueWidth];
        return TryGet(position, key, value, session) ? (key, value) : null;
    }

    /// <summary>
    /// Attends from the place of the session's last token to it and all before it. Changes nothing that is stored, and takes no room for tokens. It counts
    /// as attention that the tokens received: strategies that keep what is attended to go by it.
    /// </summary>
    /// <param name="query"><c>[layers][query heads][key width]</c>, scaled by 1/sqrt(key width) inside.</param>
    /// <param name="output">Receives <c>[layers][query heads][value width]</c>.</param>
    /// <param name="session">The session.</param>
    /// <exception cref="ArgumentException">A wrong length or tenant, or a session without tokens.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: steps that the host has open on <see cref="Cache"/> hold all the working memory.</exception>
    public void Forward(ReadOnlySpan<float> query, Span<float> output, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        ThrowIfNotOf(query, 1, Cache.Geometry.QueryHeads * Cache.Geometry.KeyWidth, nameof(query));
        ThrowIfNotOf(output, 1, Cache.Geometry.QueryHeads * Cache.Geometry.ValueWidth, nameof(output));
        EngineSession over = Find(session) ?? throw NoTokens(session);
        lock (over.Gate)
        {
            if (over.IsDisposed || over.Sequence.Length == 0)
            {
                throw NoTokens(session);
            }

            Attend(over, query, output);
        }

        Note(_forwardClock, since);
    }

    /// <summary>Appends tokens after the largest position and attends from each to all before it, causally.</summary>
    /// <param name="query"><c>[layers][tokens][query heads][key width]</c>.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="output">Receives <c>[layers][tokens][query heads][value width]</c>.</param>
    /// <param name="session">The session, made where there is none.</param>
    /// <returns>The first token's position.</returns>
    /// <exception cref="ArgumentException">No whole tokens, more than one step takes, or a wrong tenant.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the session, the cache or the tenant's quota; nothing has changed.</exception>
    public int Forward(ReadOnlySpan<float> query, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, Span<float> output, KvSessionKey session = default)
    {
        long since = Stopwatch.GetTimestamp();
        KvGeometry g = Cache.Geometry;
        int tokens = TokensOf(keys, g.KvHeads * g.KeyWidth, nameof(keys));
        ThrowIfNotOf(values, tokens, g.KvHeads * g.ValueWidth, nameof(values));
        ThrowIfNotOf(query, tokens, g.QueryHeads * g.KeyWidth, nameof(query));
        ThrowIfNotOf(output, tokens, g.QueryHeads * g.ValueWidth, nameof(output));
        EngineSession over = EnterOrCreate(session, keys, values, tokens);
        int position;
        try
        {
            position = over.NextPosition;
            int[] positions = PositionsFrom(position, tokens);
            ThrowIfTaken(over, positions);
            AppendWithinQuota(over, positions, keys, values, query, output);
        }
        finally
        {
            GiveUp(over, session);
            over.Gate.Exit();
        }

        Note(_forwardClock, since);
        return position;
    }

    private void Attend(EngineSession over, ReadOnlySpan<float> query, Span<float> output)
    {
        int layer = 0;
        for (bool alone = false; layer < Cache.Geometry.Layers; alone = true)
        {
            using CallTurns.Turn turn = _turns.Enter(alone);
            try
            {
                for (; layer < Cache.Geometry.Layers; layer++)
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

    private static ArgumentException NoTokens(KvSessionKey session) => new($"expected a session with tokens, got '{session}', which has none", nameof(session));

    private static int[] PositionsFrom(int position, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(position, int.MaxValue - tokens + 1);
        return [.. Enumerable.Range(position, tokens)];
    }

    private static void ThrowIfTaken(EngineSession session, int[] positions)
    {
        int taken = Array.FindIndex(positions, session.Contains);
        if (taken >= 0)
        {
            throw new ArgumentException($"expected positions that are not there yet, got {positions[taken]} again", nameof(positions));
        }
    }

    private int TokensOf(ReadOnlySpan<float> all, int width, string name)
    {
        int ofToken = Cache.Geometry.Layers * width;
        return all.Length > 0 && all.Length % ofToken == 0
            ? all.Length / ofToken
            : throw new ArgumentException($"{name}: expected {ofToken} elements for each token, got {all.Length}", name);
    }

    private void ThrowIfNotOf(ReadOnlySpan<float> all, int tokens, int width, string name)
    {
        int expected = Cache.Geometry.Layers * tokens * width;
        if (all.Length != expected)
        {
            throw new ArgumentException($"{name}: expected {expected} elements, got {all.Length}", name);
        }
    }

    private void Note(CallClock clock, long since)
    {
        if (_config.Execution.EnableProfiling)
        {
            clock.Add(since);
        }
    }
}
