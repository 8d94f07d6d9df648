namespace KvCacheGpu;

/// <summary>
/// Takes the step of least error per byte, over all pages, until enough bytes are free. The steps of a page lie on the lower hull of its choices
/// (bytes saved, error). So each step costs more per byte than the one before it, and the order is exactly the greedy one.
/// </summary>
internal readonly ref struct GreedyPlan : IDisposable
{
    // Level 0 keeps the floors; if they leave too little to free, level 1 does not.
    private const int Levels = 2;

    private readonly KvPages _pages;
    private readonly ReadOnlySpan<float> _shares;
    private readonly Floors _floors;
    private readonly Span<float> _lost;
    private readonly Prices _prices;
    private readonly Span<KvTransition> _plan;
    private readonly Pooled<int> _rowOf;

    // One number: the bytes of host memory that are left for pages that go.
    private readonly Pooled<long> _left;

    /// <param name="pages">The pages.</param>
    /// <param name="shares">Each page's expected share of attention.</param>
    /// <param name="prices">What steps cost. The price of a drop rises as its row loses more, and never falls.</param>
    /// <param name="floors">The pages that rows and segments keep.</param>
    /// <param name="lost">[rows] expected share of attention that each row has lost; dropped pages are added.</param>
    /// <param name="plan">Keeps every page; receives the plan.</param>
    public GreedyPlan(
        in KvPages pages, ReadOnlySpan<float> shares, in Prices prices, in Floors floors, Span<float> lost, Span<KvTransition> plan)
    {
        _pages = pages;
        _floors = floors;
        _prices = prices;
        _shares = shares;
        _lost = lost;
        _plan = plan;
        _rowOf = new Pooled<int>(pages.Count);
        _left = new Pooled<long>(1);
        _left.Span[0] = pages.OffloadBytes;
        for (int row = 0; row < pages.Rows; row++)
        {
            _rowOf.Span[pages.RowStarts[row]..pages.RowStarts[row + 1]].Fill(row);
        }
    }

    public void Fill(long bytesToFree)
    {
        using var keys = new Pooled<double>(_pages.Count);
        using var ties = new Pooled<long>(_pages.Count);
        for (int level = 0; level < Levels && bytesToFree > 0; level++)
        {
            var heap = new MinHeap(keys.Span, ties.Span);
            for (int page = 0; page < _pages.Count; page++)
            {
                if (_pages.IsVictim(page) && Next(page, level, out Step step))
                {
                    // Of pages of equal cost, the newest goes first, and of these the one of the lowest row.
                    heap.Push(step.Slope, ((long)(int.MaxValue - _pages.PageIndex[page]) << 32) | (uint)page);
                }
            }

            while (bytesToFree > 0 && heap.Count > 0)
            {
                int page = (int)heap.Tie;
                if (!Next(page, level, out Step step))
                {
                    heap.Pop();
                    continue;
                }

                // If a drop has been forbidden in the meantime, or its row has lost more, or host memory is full, the page's next step costs more than its key says.
                if (step.Slope <= heap.Key)
                {
                    Take(page, step);
                    bytesToFree -= step.Bytes;
                    if (!Next(page, level, out step))
                    {
                        heap.Pop();
                        continue;
                    }
                }

                heap.Replace(step.Slope, heap.Tie);
            }
        }
    }

    public void Dispose()
    {
        _rowOf.Dispose();
        _left.Dispose();
    }

    private void Take(int page, in Step step)
    {
        _plan[page] = step.To;
        if (step.To.Kind == KvTransitionKind.Drop)
        {
            int row = _rowOf.Span[page];
            _floors.Drop(row, page);
            if (GoesToHost(page))
            {
                _left.Span[0] -= _pages.Bytes[page];
                return;
            }

            // A share is a part of the attention to resident pages, which is 1 - lost of the whole.
            _lost[row] += (1 - _lost[row]) * Math.Clamp(_shares[page], 0, 1);
        }
    }

    /// <summary>Finds the step of least error per byte from the state that a page is in now; of equal steps the one that frees most bytes.</summary>
    private bool Next(int page, int level, out Step best)
    {
        best = new Step(default, 0, double.PositiveInfinity);
        KvTransition now = _plan[page];
        if (now.Kind == KvTransitionKind.Drop)
        {
            return false;
        }

        (int saved, double error) = now.Kind == KvTransitionKind.Demote ? Demotion(page, now.Class) : (0, 0);
        if (!_pages.Ladder.IsEmpty && (_pages.Demoted.IsEmpty || !_pages.Demoted[page]))
        {
            int targets = _pages.Ladder[_pages.Class.IsEmpty ? 0 : _pages.Class[page]].DemotesTo;
            for (int target = 0; target < _pages.Ladder.Length; target++)
            {
                if ((targets >> target & 1) != 0)
                {
                    (int bytes, double cost) = Demotion(page, target);
                    Offer(ref best, KvTransition.DemoteTo(target), bytes - saved, cost - error);
                }
            }
        }

        int row = _rowOf.Span[page];
        if (level == Levels - 1 || _floors.Allows(row, page))
        {
            double price = GoesToHost(page) ? _prices.OfOffload(row, page) : _prices.OfDrop(row, page);
            Offer(ref best, KvTransition.Drop, _pages.Bytes[page] - saved, price - error);
        }

        return best.Bytes > 0;
    }

    private bool GoesToHost(int page) => _left.Span[0] >= _pages.Bytes[page];

    private (int Bytes, double Error) Demotion(int page, int target) =>
        (_pages.Bytes[page] - _pages.Ladder[target].Bytes, _prices.OfDemotion(_rowOf.Span[page], page, _pages.Ladder[target]));

    private static void Offer(ref Step best, KvTransition to, int bytes, double error)
    {
        // An error that is not a number counts as the highest, so that the page goes last, but can go.
        double slope = double.IsNaN(error) ? double.PositiveInfinity : error / bytes;
        if (bytes > 0 && (slope < best.Slope || (slope == best.Slope && bytes > best.Bytes)))
        {
            best = new Step(to, bytes, slope);
        }
    }

    private readonly record struct Step(KvTransition To, int Bytes, double Slope);
}
