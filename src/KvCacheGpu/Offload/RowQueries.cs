using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Some queries of one row, rotated, and which pages they ask for: those of which the sketch promises the largest product with a query. Soft caps and the scale of logits change no order.</summary>
internal sealed class RowQueries(KvGeometry geometry, ulong rotationSeed, KeySketch sketches)
{
    private const int MostQueries = SketchScorer.MostQueries;

    private readonly float[] _signs = Rotation.Signs(geometry.KeyWidth, rotationSeed);
    private readonly float[] _queries = new float[MostQueries * geometry.KeyWidth];
    private int _count;

    /// <summary>Takes the queries of a row.</summary>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>, in host memory.</param>
    /// <param name="firstToken">The sequence's first token in the tensor.</param>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="head">KV head.</param>
    public void Take(KvTensor queries, int firstToken, int tokens, int head)
    {
        int group = geometry.GroupSize;
        int all = tokens * group;
        _count = Math.Min(all, MostQueries);
        for (int i = 0; i < _count; i++)
        {
            (int token, int member) = Math.DivRem(SketchScorer.QueryAt(i, _count, all), group);
            Span<float> own = Of(i);
            queries.Row(firstToken + token, (head * group) + member, geometry.QueryHeads, own).CopyTo(own);
            Rotation.Apply(own, _signs);
        }
    }

    /// <summary>How well a page agrees with the queries that were taken.</summary>
    public float Score(HostPage page) => sketches.Score(page.Place.Sketch, _queries.AsSpan(0, _count * geometry.KeyWidth));

    private Span<float> Of(int query) => _queries.AsSpan(query * geometry.KeyWidth, geometry.KeyWidth);
}
