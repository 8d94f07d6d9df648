namespace KvCacheGpu;

/// <summary>How a sequence is cut to a length, and what has to be encoded again when it grows.</summary>
internal static class SequenceCut
{
    /// <summary>Takes tokens off the end. The sequence is the caller's.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="length">Tokens to keep, fewer than there are.</param>
    /// <returns>Tokens that are left, and the pages that have to be encoded again when the sequence grows.</returns>
    public static KvTruncation Run(CacheState cache, SequenceState sequence, int length)
    {
        PageTable table = sequence.Table;
        int pageTokens = cache.Geometry.PageTokens;
        int cut = EndsInWrittenPages(cache, table, length) ? length : length / pageTokens * pageTokens;
        int reencoded = ReencodedPagesAt(cache, table, cut);
        using (cache.Pool.Gate.Enter())
        {
            table.CutTo(cut);
            sequence.Chain?.CutTo(cut / pageTokens);
            sequence.Away?.CutTo(cut / pageTokens);
            sequence.Resize(cut);
        }

        if (cut == 0)
        {
            cache.Scaling?.Unbind(sequence);
        }

        sequence.ForgetFrom(cut);
        sequence.Attended.Clear();
        return new KvTruncation(cut, reencoded);
    }

    // True if a last page that is not full is resident in every row as it was written.
    private static bool EndsInWrittenPages(CacheState cache, PageTable table, int length)
    {
        (int tail, int rest) = Math.DivRem(length, cache.Geometry.PageTokens);
        for (int row = 0; rest != 0 && row < table.Rows; row++)
        {
            if (table.EntryOf(row, tail) is var entry && (entry < 0 || table.IsMerged(row, entry)))
            {
                return false;
            }
        }

        return true;
    }

    // Pages that must be encoded again once the sequence, cut to a length, grows over its last page.
    private static int ReencodedPagesAt(CacheState cache, PageTable table, int length)
    {
        (int page, int rest) = Math.DivRem(length, cache.Geometry.PageTokens);
        int reencoded = 0;
        for (int row = 0; rest != 0 && page < table.FirstOpen && row < table.Rows; row++)
        {
            reencoded += cache.Classes.IsReencoded(table.PageClass(row, table.EntryOf(row, page)), row / cache.Geometry.KvHeads) ? 1 : 0;
        }

        return reencoded;
    }
}
