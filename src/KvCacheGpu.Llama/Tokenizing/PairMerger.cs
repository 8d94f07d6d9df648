namespace KvCacheGpu.Llama;

/// <summary>A part of a word while its parts are joined: a letter at first.</summary>
/// <param name="Id">Its token; negative if no token has this text.</param>
/// <param name="Start">Index of its first UTF-16 unit in the word.</param>
/// <param name="Length">Number of its UTF-16 units.</param>
internal readonly record struct WordPart(int Id, int Start, int Length);

/// <summary>Tells which pairs of parts a vocabulary joins to a token.</summary>
internal interface IPairTable
{
    /// <summary>Finds the token that two neighbours become, and its rank: the pair of the lowest rank is joined first. Returns false if they are not joined.</summary>
    bool TryJoin(string word, WordPart left, WordPart right, out int id, out int rank);
}

/// <summary>
/// Byte pair encoding of one word: joins the pair of the lowest rank, and of equal ranks the leftmost, until no pair is in the table. A queue
/// holds the pairs, so that a word of n letters takes n log n steps.
/// </summary>
internal static class PairMerger
{
    private const int None = -1;

    /// <summary>The parts at the end, in their order.</summary>
    public static List<WordPart> Merge(IPairTable table, string word, List<WordPart> letters)
    {
        Parts parts = new(table, word, letters);
        for (int left = 0; left + 1 < letters.Count; left++)
        {
            parts.Offer(left);
        }

        parts.JoinAll();
        return parts.Left();
    }

    // A list linked by index, and the queue of its pairs. A pair that has changed since it was queued was queued again, so its old entry is skipped.
    private struct Parts(IPairTable table, string word, List<WordPart> letters)
    {
        private readonly WordPart[] _parts = [.. letters];
        private readonly int[] _next = [.. Enumerable.Range(1, letters.Count)];
        private readonly int[] _previous = [.. Enumerable.Range(-1, letters.Count)];
        private readonly PriorityQueue<int, (int Rank, int Left)> _pairs = new();

        public readonly void Offer(int left)
        {
            if (left != None && _next[left] < _parts.Length && table.TryJoin(word, _parts[left], _parts[_next[left]], out _, out int rank))
            {
                _pairs.Enqueue(left, (rank, left));
            }
        }

        public readonly void JoinAll()
        {
            while (_pairs.TryDequeue(out int left, out (int Rank, int Left) order))
            {
                int right = _next[left];
                if (right == None || right >= _parts.Length
                    || !table.TryJoin(word, _parts[left], _parts[right], out int id, out int rank) || rank != order.Rank)
                {
                    continue;
                }

                _parts[left] = new WordPart(id, _parts[left].Start, _parts[left].Length + _parts[right].Length);
                _next[left] = _next[right];
                _next[right] = None;
                if (_next[left] < _parts.Length)
                {
                    _previous[_next[left]] = left;
                }

                Offer(_previous[left]);
                Offer(left);
            }
        }

        public readonly List<WordPart> Left()
        {
            List<WordPart> left = [];
            for (int i = 0; i < _parts.Length; i = _next[i])
            {
                left.Add(_parts[i]);
            }

            return left;
        }
    }
}
