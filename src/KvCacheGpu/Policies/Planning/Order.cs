namespace KvCacheGpu;

/// <summary>Pages by score, so that one sort of integers settles ties too.</summary>
internal static class Order
{
    /// <summary>A number that is lower for the page that goes first: the lower score; at equal scores the higher index, so that the lower position stays.</summary>
    public static ulong Key(float score, int page) => ((ulong)Ordered(score) << 32) | ~(uint)page;

    /// <summary>The page of a key.</summary>
    public static int Page(ulong key) => (int)~(uint)key;

    /// <summary>Whether two keys are of equal scores.</summary>
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
