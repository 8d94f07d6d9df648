namespace KvCacheGpu;

/// <summary>
/// Version 1: a table of tokens by position, in host memory and full precision. When it is full, a quarter of the tokens is evicted at once.
/// </summary>
/// <remarks>
/// <see cref="KvCacheStrategy.Lru"/> evicts the tokens with the oldest access, <see cref="KvCacheStrategy.Lfu"/> those with the lowest count, and
/// <see cref="KvCacheStrategy.Adaptive"/> those with the lowest sum of half the recency, normalised over the live tokens, and half the count, in parts of
/// the largest. Of two that are equal, the older is evicted.
/// Thread safety: members may be called from any thread.
/// </remarks>
[Obsolete(Obsoletions.SimpleKvCacheMessage, DiagnosticId = Obsoletions.SimpleKvCacheId, UrlFormat = Obsoletions.UrlFormat)]
public sealed class SimpleKvCache
{
    private readonly Dictionary<int, Token> _tokens = [];
    private readonly Lock _gate = new();
    private readonly KvCacheStrategy _strategy;
    private long _clock;
    private long _hits;
    private long _misses;
    private long _evicted;

    /// <summary>Makes an empty cache.</summary>
    /// <param name="maxSize">Tokens at most, at least 1. The default value is 4096.</param>
    /// <param name="strategy">Lru, Lfu or Adaptive. The default value is Lru.</param>
    /// <exception cref="ArgumentOutOfRangeException">No room for a token, or another strategy.</exception>
    public SimpleKvCache(int maxSize = 4096, KvCacheStrategy strategy = KvCacheStrategy.Lru)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSize, 1);
        if (strategy is not (KvCacheStrategy.Lru or KvCacheStrategy.Lfu or KvCacheStrategy.Adaptive))
        {
            throw new ArgumentOutOfRangeException(nameof(strategy), strategy, "expected Lru, Lfu or Adaptive");
        }

        (MaxSize, _strategy) = (maxSize, strategy);
    }

    /// <summary>Tokens at most.</summary>
    public int MaxSize { get; }

    /// <summary>Tokens.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _tokens.Count;
            }
        }
    }

    /// <summary>Stores copies of a token's key and value; one that is there is replaced, and counts as used.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="key">Its key, of any length.</param>
    /// <param name="value">Its value, of any length.</param>
    public void Put(int position, ReadOnlySpan<float> key, ReadOnlySpan<float> value)
    {
        lock (_gate)
        {
            long now = ++_clock;
            if (_tokens.TryGetValue(position, out Token? token))
            {
                (token.Key, token.Value) = (key.ToArray(), value.ToArray());
                token.Use(now);
                return;
            }

            if (_tokens.Count == MaxSize)
            {
                Evict();
            }

            _tokens[position] = new Token(now) { Key = key.ToArray(), Value = value.ToArray() };
        }
    }

    /// <summary>Returns a token's key and value, and counts the token as used; null if it was never put, or was evicted.</summary>
    public (float[] Key, float[] Value)? Get(int position)
    {
        lock (_gate)
        {
            if (!_tokens.TryGetValue(position, out Token? token))
            {
                _misses++;
                return null;
            }

            _hits++;
            token.Use(++_clock);
            return ((float[])token.Key.Clone(), (float[])token.Value.Clone());
        }
    }

    /// <summary>Drops every token.</summary>
    public void Clear()
    {
        lock (_gate)
        {
            _tokens.Clear();
        }
    }

    /// <summary>Counts tokens, calls of Get that found one and that did not, and evicted tokens.</summary>
    public (int Count, long Hits, long Misses, long Evicted) GetStats()
    {
        lock (_gate)
        {
            return (_tokens.Count, _hits, _misses, _evicted);
        }
    }

    private void Evict()
    {
        long oldest = _tokens.Values.Min(token => token.LastUse);
        double span = Math.Max(1, _clock - oldest);
        double mostUses = _tokens.Values.Max(token => token.Uses);
        int[] leaving =
        [
            .. _tokens
                .OrderBy(pair => Score(pair.Value))
                .ThenBy(pair => pair.Value.Made)
                .Take(Math.Max(1, _tokens.Count / 4))
                .Select(pair => pair.Key),
        ];
        foreach (int position in leaving)
        {
            _tokens.Remove(position);
        }

        _evicted += leaving.Length;

        double Score(Token token) => _strategy switch
        {
            KvCacheStrategy.Lru => token.LastUse,
            KvCacheStrategy.Lfu => token.Uses,
            _ => (0.5 * ((token.LastUse - oldest) / span)) + (0.5 * (token.Uses / mostUses)),
        };
    }

    private sealed class Token(long now)
    {
        public required float[] Key { get; set; }

        public required float[] Value { get; set; }

        public long Made { get; } = now;

        public long LastUse { get; private set; } = now;

        public long Uses { get; private set; } = 1;

        public void Use(long at) => (LastUse, Uses) = (at, Uses + 1);
    }
}
