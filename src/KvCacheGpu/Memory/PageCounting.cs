namespace KvCacheGpu;

/// <summary>Counts live pages by their formats.</summary>
internal static class PageCounting
{
    /// <summary>Counts them; the caller is inside of the pool's gate.</summary>
    public static KvPageCounts Of(PagePool pool, PageClasses classes)
    {
        var found = new List<KvFormatPages>();
        for (int c = 0; c < classes.Count; c++)
        {
            (int open, int sealedPages) = (pool.OpenPages(c), pool.SealedPages(c));
            if (open + sealedPages == 0)
            {
                continue;
            }

            // Open pages, and those sealed where they lie, may have one pair of formats.
            long bytes = (long)(open + sealedPages) * classes.Shape.Classes[c].Bytes;
            int same = found.FindIndex(f => f.Formats == classes.FormatsOf(c));
            KvFormatPages before = same < 0 ? new KvFormatPages(classes.FormatsOf(c), 0, 0, 0) : found[same];
            KvFormatPages sum = before with { Open = before.Open + open, Sealed = before.Sealed + sealedPages, Bytes = before.Bytes + bytes };
            if (same < 0)
            {
                found.Add(sum);
            }
            else
            {
                found[same] = sum;
            }
        }

        return new KvPageCounts(pool.OpenSlots, pool.SealedSlots, [.. found]);
    }
}
