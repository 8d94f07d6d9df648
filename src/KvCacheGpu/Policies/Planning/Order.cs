namespace KvCacheGpu;

/// <summary>Packs a score and a page into one integer, so that one sort of integers orders pages by score and settles ties too.</summary>
internal static class Order
{
    // Below it a sort by comparisons is as fast.
    private const int Few = 64;

    // A pass orders keys by eight bits.
    private const int Bins = 256;

    /// <summary>A number that is lower for the page that goes first: the page of the lower score, and at equal scores that of the higher index, so that the lower position stays.</summary>
    public static ulong Key(float score, int page) => ((ulong)Ordered(score) << 32) | ~(uint)page;

    /// <summary>The page of a key.</summary>
    public static int Page(ulong key) => (int)~(uint)key;

    /// <summary>True if two keys have equal scores.</summary>
    public static bool Tied(ulong a, ulong b) => a >> 32 == b >> 32;

    /// <summary>
    /// Sorts keys, the lowest first, by the bytes of their scores from the last to the first (radix sort): for rows of 512 pages it takes less than half of the time of
    /// a sort by comparisons.
    /// </summary>
    /// <param name="keys">Keys, of pages that ascend.</param>
    /// <param name="room">As many numbers; overwritten.</param>
    public static void Sort(Span<ulong> keys, Span<ulong> room)
    {
        if (keys.Length < Few)
        {
            keys.Sort();
            return;
        }

        Span<int> counts = stackalloc int[sizeof(uint) * Bins];
        counts.Clear();
        bool isSorted = true;
        ulong last = 0;
        foreach (ulong key in keys)
        {
            isSorted &= last <= key;
            last = key;
            for (int at = 0; at < sizeof(uint); at++)
            {
                counts[(at * Bins) + ByteOf(key, at)]++;
            }
        }

        if (isSorted)
        {
            return;
        }

        // Each pass keeps the order of equal bytes. Of equal scores the last page goes first, so that the first pass begins with it.
        keys.Reverse();
        Span<ulong> from = keys;
        Span<ulong> to = room[..keys.Length];
        for (int at = 0; at < sizeof(uint); at++)
        {
            Span<int> bins = counts.Slice(at * Bins, Bins);
            if (bins[ByteOf(from[0], at)] == from.Length)
            {
                continue;
            }

            int start = 0;
            foreach (ref int bin in bins)
            {
                (bin, start) = (start, start + bin);
            }

            foreach (ulong key in from)
            {
                to[bins[ByteOf(key, at)]++] = key;
            }

            Span<ulong> next = from;
            from = to;
            to = next;
        }

        if (from != keys)
        {
            from.CopyTo(keys);
        }
    }

    // A byte of a key's score, the last one first.
    private static int ByteOf(ulong key, int at) => (byte)(key >> (32 + (8 * at)));

    // IEEE bits in the order of the numbers; a score that is not a number is the lowest, and the two zeros are one.
    private static uint Ordered(float score)
    {
        if (float.IsNaN(score))
        {
            return 0;
        }

        uint bits = BitConverter.SingleToUInt32Bits(score + 0f);
        return (bits & 0x8000_0000) != 0 ? ~bits : bits | 0x8000_0000;
    }
}
