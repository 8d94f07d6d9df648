namespace KvCacheGpu;

/// <summary>The orders of all experts: the unfixed pages of every row, from the page that the expert would drop first to the last.</summary>
internal readonly ref struct Opinions : IDisposable
{
    private readonly KvPages _pages;
    private readonly Pooled<ulong> _orders;
    private readonly Pooled<int> _unfixed;

    public Opinions(in KvPages pages, ReadOnlySpan<RankedPolicy> experts)
    {
        _pages = pages;
        _orders = new Pooled<ulong>(pages.Count * experts.Length);
        _unfixed = new Pooled<int>(pages.Rows);
        using var scores = new Pooled<float>(pages.Count);
        using var room = new Pooled<ulong>(pages.Count);
        for (int expert = 0; expert < experts.Length; expert++)
        {
            experts[expert].Score(pages, scores.Span);
            for (int row = 0; row < pages.Rows; row++)
            {
                int start = (expert * pages.Count) + pages.RowStarts[row];
                int end = start;
                for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
                {
                    if (!pages.IsFixed(page))
                    {
                        _orders.Span[end++] = Order.Key(scores.Span[page], page);
                    }
                }

                Order.Sort(_orders.Span[start..end], room.Span);
                _unfixed.Span[row] = end - start;
            }
        }
    }

    /// <summary>An expert's order of a row.</summary>
    public ReadOnlySpan<ulong> Of(int expert, int row) =>
        _orders.Span.Slice((expert * _pages.Count) + _pages.RowStarts[row], _unfixed.Span[row]);

    /// <summary>
    /// Estimates each page's share of attention from all experts together. Each expert lays the row's own masses, sorted, on the pages in its order
    /// (pages of equal scores share evenly). So experts differ in their order alone, whatever unit their scores have.
    /// </summary>
    /// <param name="weights">[rows][experts] trust in each expert; its sum over a row is 1.</param>
    /// <param name="whole">Mass of a row.</param>
    /// <param name="shares">[pages] overwritten; 0 for fixed pages.</param>
    public void Estimate(ReadOnlySpan<float> weights, double whole, Span<float> shares)
    {
        int experts = weights.Length / _pages.Rows;
        using var sorted = new Pooled<float>(_pages.Count);
        shares.Clear();
        for (int row = 0; row < _pages.Rows; row++)
        {
            Span<float> masses = sorted.Span[.._unfixed.Span[row]];
            int count = 0;
            for (int page = _pages.RowStarts[row]; page < _pages.RowStarts[row + 1]; page++)
            {
                if (!_pages.IsFixed(page))
                {
                    masses[count++] = float.IsFinite(_pages.Mass[page]) ? _pages.Mass[page] : 0;
                }
            }

            masses.Sort();
            for (int expert = 0; expert < experts; expert++)
            {
                Spread(Of(expert, row), masses, (float)(weights[(row * experts) + expert] / whole), shares);
            }
        }
    }

    public void Dispose()
    {
        _orders.Dispose();
        _unfixed.Dispose();
    }

    private static void Spread(ReadOnlySpan<ulong> order, ReadOnlySpan<float> masses, float factor, Span<float> shares)
    {
        for (int start = 0, end; start < order.Length; start = end)
        {
            float sum = masses[start];
            for (end = start + 1; end < order.Length && Order.Tied(order[start], order[end]); end++)
            {
                sum += masses[end];
            }

            for (int i = start; i < end; i++)
            {
                shares[Order.Page(order[i])] += factor * sum / (end - start);
            }
        }
    }
}
