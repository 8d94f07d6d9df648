namespace KvCacheGpu.Kernels;

/// <summary>
/// How a row's pages are split over groups: by the row's own page count alone, so that its result does not depend on the rest of
/// the batch.
/// </summary>
internal static class Segments
{
    /// <summary>Segments of a row, at most: this bounds scratch memory at any length.</summary>
    public const int Max = 64;

    /// <summary>Pages of one segment in a row of <paramref name="pages"/>.</summary>
    public static int Pages(int pages, int minimum)
    {
        int share = (pages + Max - 1) / Max;
        return share > minimum ? share : minimum;
    }
}
