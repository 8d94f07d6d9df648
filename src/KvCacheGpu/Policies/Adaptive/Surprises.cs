namespace KvCacheGpu;

/// <summary>
/// How much attention each row still gives to pages that are neither sinks nor recent. What a page received so far says little about a question
/// that nobody asked yet; how its head looks back says how likely one is to be answered there.
/// </summary>
/// <remarks>
/// A head that comes back comes to one page at a time: its share there is all or nothing, so that the mean of the squares, which output
/// errors go by (<see cref="OutputError"/>), is the mean share itself. Where it is spread instead, that is an upper bound.
/// </remarks>
internal sealed class Surprises(int rows)
{
    // Observations after which the mean becomes a running one.
    private const int Memory = 256;

    private readonly float[] _reach = new float[rows];
    private readonly float[] _perPage = new float[rows];
    private readonly int[] _counts = new int[rows];

    /// <summary>[rows] mean square of the share that a page may receive against expectation.</summary>
    public ReadOnlySpan<float> Squares => _perPage;

    /// <summary>
    /// Scales expected shares down to what rows still look back at: masses gathered while a page was recent promise too much of a head that only
    /// looks at recent pages.
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

    /// <summary>Takes in the latest query.</summary>
    public void Observe(in KvPages pages)
    {
        for (int row = 0; row < pages.Rows && !pages.LastMass.IsEmpty; row++)
        {
            (float sum, int count) = (0, 0);
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                if (!pages.IsFixed(page) && float.IsFinite(pages.LastMass[page]))
                {
                    sum += pages.LastMass[page];
                    count++;
                }
            }

            // A row of which nothing old is left keeps what was seen of it.
            if (count > 0)
            {
                _counts[row] = Math.Min(_counts[row] + 1, Memory);
                _reach[row] += (sum - _reach[row]) / _counts[row];
                _perPage[row] += ((sum / count) - _perPage[row]) / _counts[row];
            }
        }
    }
}
