namespace KvCacheGpu;

/// <summary>Packs a score and a page into one integer, so that one sort of integers orders pages by score and settles ties too.</summary>
internal static class Order
{
    /// <summary>A number that is lower for the page that goes first: the page of the lower score, and at equal scores that of the higher index, so that the lower position stays.</summary>
    public static ulong Key(float score, int page) => ((ulong)Ordered(score) << 32) | ~(uint)page;

    /// <summary>The page of a key.</summary>
    public static int Page(ulong key) => (int)~(uint)key;

    /// <summary>True if two keys have equal scores.</summary>
    public static bool Tied(ulong a, ulong b) => a >> 32 == b >> 32;

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
