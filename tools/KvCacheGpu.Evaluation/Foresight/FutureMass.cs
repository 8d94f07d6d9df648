namespace KvCacheGpu.Evaluation;

/// <summary>The attention that queries give to pages, known before they come: how much of it is still ahead at each of them.</summary>
internal sealed class FutureMass
{
    // [queries][rows][pages] sums over a query and all after it.
    private readonly float[][] _ahead;
    private readonly int _pages;

    /// <summary>Sums up what queries attend to.</summary>
    /// <param name="pages">Pages of a row.</param>
    /// <param name="queries">[queries][rows][pages] a page's share of a query's attention, in the order in which they come.</param>
    public FutureMass(int pages, IReadOnlyList<float[]> queries)
    {
        _pages = pages;
        _ahead = [.. queries.Select(query => (float[])query.Clone())];
        for (int query = _ahead.Length - 2; query >= 0; query--)
        {
            for (int i = 0; i < _ahead[query].Length; i++)
            {
                _ahead[query][i] += _ahead[query + 1][i];
            }
        }
    }

    /// <summary>Queries known.</summary>
    public int Queries => _ahead.Length;

    /// <summary>What a page receives once so many queries are past; 0 after the last.</summary>
    /// <param name="past">Queries that have been answered.</param>
    /// <param name="row">Row: layer * KV heads + head.</param>
    /// <param name="page">First position / page tokens.</param>
    public float After(int past, int row, int page) => past < Queries ? _ahead[past][(row * _pages) + page] : 0;
}
