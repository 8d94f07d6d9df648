using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Pages whose sketches the device reads where they lie, in the order of their chunks: a launch takes those of one. Callers are inside of the stage's gate.</summary>
internal sealed class SketchScores
{
    private readonly List<(int Chunk, int Place)> _order = [];
    private readonly List<SketchRead> _pages = [];
    private readonly List<SketchRead> _sorted = [];
    private float[] _scores = [];

    /// <summary>Adds a page of one of the batch's sequences.</summary>
    public void Add(HostPage page, int sequence, int head)
    {
        _order.Add((page.Place.Chunk.Number, _pages.Count));
        _pages.Add(new SketchRead(page.Place.Chunk.Block, page.Place.SketchUnit, sequence, head));
    }

    /// <summary>Scores the pages that were added, in their order, and forgets them.</summary>
    public void Score(SketchScorer sketches, int layer, KvTensor queries, Span<float> scores)
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

            sketches.Score(layer, queries, CollectionsMarshal.AsSpan(_sorted), _scores);
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
