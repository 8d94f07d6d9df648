namespace KvCacheGpu;

/// <summary>
/// Measures how each row attends to pages that are neither sinks nor recent: how much in all, how much of it at one page at a time, and how
/// unevenly over time. From these three follows what it costs to drop such pages: see <see cref="Prices"/>.
/// </summary>
internal sealed class OldAttention(int rows)
{
    // Number of observations after which the mean becomes a running mean.
    private const int Memory = 256;

    // A row that looks back seldom has few observations, and their ratio may be any number.
    private const double MostBurst = 2;

    private readonly float[] _reach = new float[rows];
    private readonly float[] _reachSquare = new float[rows];
    private readonly float[] _pageSquares = new float[rows];
    private readonly int[] _counts = new int[rows];

    /// <summary>Mean share of a query's attention that goes to old pages.</summary>
    public double Reach(int row) => _reach[row];

    /// <summary>
    /// E[sum of the squared shares of old pages] / E[sum of their shares]: 1 for a row whose queries each look at one page alone, 1 / n for one that
    /// spreads its attention over n pages.
    /// </summary>
    public double Concentration(int row) => _reach[row] > 0 ? _pageSquares[row] / _reach[row] : 0;

    /// <summary>
    /// How much the shares of two pages rise and fall together: E[share of one * share of another] / (E[one] E[another]), the mean over all pairs. 1 for steady
    /// attention that is spread out, 0 for a row that looks at one page at a time, above 1 for one that looks back seldom, and then everywhere.
    /// </summary>
    public double Burst(int row) =>
        _reach[row] > 0 ? Math.Clamp((_reachSquare[row] - _pageSquares[row]) / ((double)_reach[row] * _reach[row]), 0, MostBurst) : 0;

    /// <summary>
    /// Scales expected shares down to the attention that rows still give to old pages. Masses that were gathered while a page was recent promise too
    /// much if a head only looks at recent pages.
    /// </summary>
    public void Temper(in KvPages pages, Span<float> shares)
    {
        for (int row = 0; row < pages.Rows; row++)
        {
            Span<float> ofRow = shares[pages.RowStarts[row]..pages.RowStarts[row + 1]];
            double sum = 0;
            foreach (float share in ofRow)
            {
                sum += share;
            }

            if (_counts[row] > 0 && sum > _reach[row])
            {
                float factor = (float)(_reach[row] / sum);
                foreach (ref float share in ofRow)
                {
                    share *= factor;
                }
            }
        }
    }

    /// <summary>Adds the attention of the latest query.</summary>
    public void Observe(in KvPages pages)
    {
        for (int row = 0; row < pages.Rows && !pages.LastMass.IsEmpty; row++)
        {
            (float sum, float squares, int count) = (0, 0, 0);
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                float mass = pages.LastMass[page];
                if (!pages.IsFixed(page) && float.IsFinite(mass))
                {
                    sum += mass;
                    squares += mass * mass;
                    count++;
                }
            }

            // A row without old pages keeps its means.
            if (count > 0)
            {
                _counts[row] = Math.Min(_counts[row] + 1, Memory);
                _reach[row] += (sum - _reach[row]) / _counts[row];
                _reachSquare[row] += ((sum * sum) - _reachSquare[row]) / _counts[row];
                _pageSquares[row] += (squares - _pageSquares[row]) / _counts[row];
            }
        }
    }
}
