namespace KvCacheGpu;

/// <summary>
/// Measures how much attention each row still gives to pages that are neither sinks nor recent. The attention that a page has received says little
/// about a question that nobody has asked yet; how much its head looks back says how likely it is that the answer is found in an old page.
/// </summary>
/// <remarks>
/// A head that looks back looks at one page at a time: its share there is all or nothing, so that the mean of the squares, on which output
/// errors depend (<see cref="OutputError"/>), equals the mean share. If its attention is spread instead, that is an upper bound.
/// </remarks>
internal sealed class Surprises(int rows)
{
    // Number of observations after which the mean becomes a running mean.
    private const int Memory = 256;

    private readonly float[] _reach = new float[rows];
    private readonly float[] _perPage = new float[rows];
    private readonly int[] _counts = new int[rows];

    /// <summary>[rows] mean square of the share that a page may receive against expectation.</summary>
    public ReadOnlySpan<float> Squares => _perPage;

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
            (float sum, int count) = (0, 0);
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                if (!pages.IsFixed(page) && float.IsFinite(pages.LastMass[page]))
                {
                    sum += pages.LastMass[page];
                    count++;
                }
            }

            // A row without old pages keeps its means.
            if (count > 0)
            {
                _counts[row] = Math.Min(_counts[row] + 1, Memory);
                _reach[row] += (sum - _reach[row]) / _counts[row];
                _perPage[row] += ((sum / count) - _perPage[row]) / _counts[row];
            }
        }
    }
}
