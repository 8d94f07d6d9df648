namespace KvCacheGpu.Kernels;

/// <summary>
/// How a row's pages are split over groups: by the row's own page count alone, so that its result does not depend on the rest of
/// the batch.
/// </summary>
internal static class Segments
{
    /// <summary>Where a segment is the work of a group, a row has 2^6 of them at most: this bounds scratch memory at any length.</summary>
    public const int GroupShift = 6;

    /// <summary>Where a segment is the work of a warp, a row has 2^8 of them at most: one sequence then fills a large device.</summary>
    public const int WarpShift = 8;

    /// <summary>Where a segment is the work of a group for a block of many queries, a row has 2^5 of them at most: their partial results take as much as those of few queries.</summary>
    public const int ManyShift = 5;

    /// <summary>There a segment has this many times the tokens at least, as each makes partial results of all queries.</summary>
    public const int ManyTimes = 4;

    /// <summary>Pages of one segment in a row of <paramref name="pages"/> that has 2^<paramref name="shift"/> segments at most.</summary>
    public static int Pages(int pages, int minimum, int shift)
    {
        int share = (pages + (1 << shift) - 1) >> shift;
        return share > minimum ? share : minimum;
    }
}
