namespace KvCacheGpu.Evaluation;

/// <summary>The attention that known queries will give to pages: for each query, the sum over it and all later ones.</summary>
internal sealed class FutureMass
{
    // [queries][rows][pages] sums over a query and all later ones.
    private readonly float[][] _ahead;
    private readonly int _pages;

    /// <summary>Sums up the attention of queries.</summary>
    /// <param name="pages">Number of pages of a row.</param>
    /// <param name="queries">[queries][rows][pages] a page's share of a query's attention; queries are in their order in time.</param>
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

    /// <summary>Number of known queries.</summary>
    public int Queries => _ahead.Length;

    /// <summary>The attention that a page receives after a number of queries; 0 after the last.</summary>
    /// <param name="past">Number of queries that have been answered.</param>
    /// <param name="row">The row: layer * KV heads + head.</param>
    /// <param name="page">The page's first position divided by page tokens.</param>
    public float After(int past, int row, int page) => past < Queries ? _ahead[past][(row * _pages) + page] : 0;
}
