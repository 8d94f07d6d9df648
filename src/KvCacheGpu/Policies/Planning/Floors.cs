namespace KvCacheGpu;

/// <summary>Counts the pages that stay of each row and segment, against the least that it keeps while others have pages to give.</summary>
internal readonly ref struct Floors : IDisposable
{
    private readonly KvPages _pages;
    private readonly Pooled<int> _rowKept;
    private readonly Pooled<int> _segmentKept;
    private readonly Pooled<int> _segmentFloor;
    private readonly int _rowFloor;

    /// <param name="pages">The pages.</param>
    /// <param name="bytesToFree">Bytes to free: the pages that are left determine the even share.</param>
    /// <param name="rowShare">Part of the even share of unfixed pages that every row keeps.</param>
    /// <param name="segmentShare">Part of the even share of all pages that every segment keeps.</param>
    public Floors(in KvPages pages, long bytesToFree, float rowShare, float segmentShare)
    {
        _pages = pages;
        _rowKept = new Pooled<int>(pages.Rows);
        _segmentKept = new Pooled<int>(pages.SegmentStarts.Length + 1);
        _segmentFloor = new Pooled<int>(pages.SegmentStarts.Length + 1);
        long unfixed = 0, victims = 0, bytes = 0;
        _segmentKept.Span.Clear();
        for (int row = 0; row < pages.Rows; row++)
        {
            int kept = 0;
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                kept += pages.IsFixed(page) ? 0 : 1;
                victims += pages.IsVictim(page) ? 1 : 0;
                bytes += pages.IsVictim(page) ? pages.Bytes[page] : 0;
                _segmentKept.Span[SegmentOf(page)]++;
            }

            _rowKept.Span[row] = kept;
            unfixed += kept;
        }

        // The number of pages to drop, at the mean size of a victim.
        double goes = bytes == 0 ? 0 : Math.Min(victims, Math.Ceiling((double)bytesToFree * victims / bytes));
        _rowFloor = (int)(rowShare * (unfixed - goes) / pages.Rows);
        SetSegmentFloors(segmentShare * (pages.Count - goes) / Math.Max(pages.Length, 1));
    }

    /// <summary>True if a page may go without its row or segment falling below its floor.</summary>
    public bool Allows(int row, int page)
    {
        int segment = SegmentOf(page);
        return _rowKept.Span[row] > _rowFloor && _segmentKept.Span[segment] > _segmentFloor.Span[segment];
    }

    /// <summary>Counts a page that goes.</summary>
    public void Drop(int row, int page)
    {
        _rowKept.Span[row]--;
        _segmentKept.Span[SegmentOf(page)]--;
    }

    public void Dispose()
    {
        _rowKept.Dispose();
        _segmentKept.Dispose();
        _segmentFloor.Dispose();
    }

    private void SetSegmentFloors(double pagesPerToken)
    {
        ReadOnlySpan<int> starts = _pages.SegmentStarts;
        for (int segment = 0; segment <= starts.Length; segment++)
        {
            int from = segment == 0 ? 0 : starts[segment - 1];
            int to = segment == starts.Length ? _pages.Length : Math.Min(starts[segment], _pages.Length);
            _segmentFloor.Span[segment] = starts.IsEmpty ? 0 : (int)(pagesPerToken * Math.Max(0, to - from));
        }
    }

    // A page belongs to the segment of its first token.
    private int SegmentOf(int page)
    {
        if (_pages.SegmentStarts.IsEmpty)
        {
            return 0;
        }

        int at = _pages.SegmentStarts.BinarySearch((int)_pages.FirstPosition(page));
        return at >= 0 ? at + 1 : ~at;
    }
}
