namespace KvCacheGpu.Tests;

/// <summary>Sequences of mixed lengths that come, grow, fork, are cut and go in one cache, as long as it is asked.</summary>
internal sealed class MixedLife(KvCache cache, int seed)
{
    private const int Chunk = 256;
    private const int Prompts = 4;

    private static readonly float[] Numbers = [.. Rows()];

    private readonly Random _random = new(seed);
    private readonly List<KvSequence> _live = [];
    private int _made;

    /// <summary>Sequences that were begun, forks counted.</summary>
    public int Begun { get; private set; }

    /// <summary>Steps that did not fit, upon which another sequence went.</summary>
    public int Refused { get; private set; }

    /// <summary>Sequences that live.</summary>
    public int Live => _live.Count;

    /// <summary>Makes a sequence of so many tokens that no other begins with.</summary>
    public void Add(int tokens) => Add(tokens, 1_000_000 + (100_000 * ++_made));

    /// <summary>Lets so many things happen, with so many sequences at most at once.</summary>
    public void Run(int operations, int atOnce, int longest)
    {
        for (int i = 0; i < operations; i++)
        {
            int what = _random.Next(100);
            if (_live.Count == 0 || (what < 45 && _live.Count < atOnce))
            {
                // As many of a length as of twice the length. Some prompts begin alike.
                Add((int)Math.Exp(_random.NextDouble() * Math.Log(longest)), _random.Next(2) == 0 ? 1 + (100_000 * _random.Next(Prompts)) : 1_000_000 + (100_000 * ++_made));
                continue;
            }

            KvSequence some = _live[_random.Next(_live.Count)];
            if (what < 60)
            {
                Append(some, some.Length * 7, 1 + _random.Next(60));
            }
            else if (what < 70)
            {
                some.Truncate(_random.Next(some.Length + 1));
            }
            else if (what < 76 && _live.Count < atOnce)
            {
                Fork(some);
            }
            else
            {
                Drop(some);
            }
        }
    }

    /// <summary>Drops the oldest sequence.</summary>
    public void DropOldest() => Drop(_live[0]);

    /// <summary>Drops all.</summary>
    public void DropAll()
    {
        while (_live.Count > 0)
        {
            Drop(_live[_random.Next(_live.Count)]);
        }
    }

    private static IEnumerable<float> Rows()
    {
        var random = new Random(5);
        for (int i = 0; i < Chunk * 4 * 64; i++)
        {
            yield return (float)((random.NextDouble() * 2) - 1);
        }
    }

    private void Add(int tokens, int firstId)
    {
        KvSequence sequence = cache.CreateSequence();
        Begun++;
        _live.Add(sequence);
        int reused = cache.Options.PrefixReuse ? sequence.Reuse([.. Enumerable.Range(firstId, tokens)]) : 0;
        Append(sequence, firstId + reused, tokens - reused);
    }

    private void Append(KvSequence sequence, int firstId, int tokens)
    {
        int width = cache.Geometry.KvHeads * cache.Geometry.KeyWidth;
        while (tokens > 0)
        {
            int count = Math.Min(Chunk, Math.Min(tokens, cache.Options.MaxTokens - sequence.Length));
            if (count == 0)
            {
                return;
            }

            if (!sequence.TryBegin([.. Enumerable.Range(firstId, count)], out KvStep step))
            {
                Refused++;
                KvSequence? other = _live.Find(s => s != sequence);
                if (other is null)
                {
                    return;
                }

                Drop(other);
                continue;
            }

            using (step)
            {
                for (int layer = 0; layer < cache.Geometry.Layers; layer++)
                {
                    step.Append(layer, Numbers.AsSpan(0, count * width), Numbers.AsSpan(0, count * width));
                }

                step.Commit();
            }

            (firstId, tokens) = (firstId + count, tokens - count);
        }
    }

    private void Fork(KvSequence of)
    {
        try
        {
            _live.Add(of.Fork());
            Begun++;
        }
        catch (KvOutOfMemoryException)
        {
            Refused++;
        }
    }

    private void Drop(KvSequence sequence)
    {
        _live.Remove(sequence);
        sequence.Dispose();
    }
}
