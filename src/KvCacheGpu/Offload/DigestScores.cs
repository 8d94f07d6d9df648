using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Pages whose digests the device reads where they lie, in the order of their chunks: a launch takes those of one. Callers are inside of the stage's gate.</summary>
internal sealed class DigestScores
{
    private readonly List<(int Chunk, int Place)> _order = [];
    private readonly List<DigestRead> _pages = [];
    private readonly List<DigestRead> _sorted = [];
    private float[] _scores = [];

    /// <summary>Adds a page of one of the batch's sequences.</summary>
    public void Add(HostPage page, int sequence, int head)
    {
        PageTransfer at = page.Place.To(0);
        _order.Add((page.Place.Chunk.Number, _pages.Count));
        _pages.Add(new DigestRead(at.Block, at.Unit, page.Class, sequence, head));
    }

    /// <summary>Scores the pages that were added, in their order, and forgets them.</summary>
    public void Score(DigestScorer digests, int layer, KvTensor queries, Span<float> scores)
    {
        try
        {
            _order.Sort();
            foreach ((_, int place) in _order)
            {
                _sorted.Add(_pages[place]);
            }

            if (_scores.Length < _pages.Count)
            {
                _scores = new float[_pages.Count * 5 / 4];
            }

            digests.Score(layer, queries, CollectionsMarshal.AsSpan(_sorted), _scores);
            for (int i = 0; i < _order.Count; i++)
            {
                scores[_order[i].Place] = _scores[i];
            }
        }
        finally
        {
            _order.Clear();
            _pages.Clear();
            _sorted.Clear();
        }
    }
}
