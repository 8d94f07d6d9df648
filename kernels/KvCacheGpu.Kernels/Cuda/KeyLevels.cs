using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Codes of T keys to their levels (<see cref="Levels"/>) less a half, as signed bytes: n of a positive level, -(n + 1) of a negative one. Codes are selectors of prmt
/// as they lie: a nibble each.
/// </summary>
internal static class KeyLevels
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Magnitudes of four bits.</summary>
    public static Words2 FourBits => Of(0x271B1005, 0x72564334);

    /// <summary>Bytes of three bits.</summary>
    public static Words2 ThreeBits => Of(unchecked((int)0x92BBD9F3), 0x6D44260C);

    /// <summary>Bytes of two bits.</summary>
    public static Words2 TwoBits => Of(0x762389DC, 0);

    /// <summary>Of eight codes of 4 bits the bytes of the low four (X) and of the high four (Y).</summary>
    [MethodImpl(Inlined)]
    public static Words2 Eight(int codes, Words2 levels)
    {
        // The three low bits are the magnitude. The top bit is set for positive levels: prmt spreads it over a byte, of odd codes from where it is and of even ones four bits on.
        int magnitudes = Lane.And(codes, 0x77777777);
        int even = codes << 4;
        Words2 bytes = default;
        bytes.X = Lane.Permute(levels.X, levels.Y, magnitudes) ^ ~Lane.Permute(codes, even, 0x9D8C);
        bytes.Y = Lane.Permute(levels.X, levels.Y, magnitudes >>> 16) ^ ~Lane.Permute(codes, even, 0xBFAE);
        return bytes;
    }

    /// <summary>The A operand of one word of two tokens in 4 bits.</summary>
    [MethodImpl(Inlined)]
    public static Words4 OfFour(KeyWords words, Words2 levels)
    {
        Words2 even = Eight(words.A.X, levels);
        Words2 odd = Eight(words.A.Y, levels);
        return KeyOperands.Of(even.X, odd.X, even.Y, odd.Y);
    }

    /// <summary>Step <paramref name="step"/> of three words of two tokens: of the first 16 elements the even ones (0) and the odd ones (1), then of the last 16 (2, 3).</summary>
    [MethodImpl(Inlined)]
    public static Words4 OfThree(KeyWords words, int step, Words2 levels)
    {
        int even = Nibbles(step < 2 ? words.A.X : words.B.X, words.C.X, step);
        int odd = Nibbles(step < 2 ? words.A.Y : words.B.Y, words.C.Y, step);
        return KeyOperands.Of(Look(even, levels), Look(odd, levels), Look(even >>> 16, levels), Look(odd >>> 16, levels));
    }

    /// <summary>Step <paramref name="step"/> of one word of two tokens in 2 bits: the even elements (0), or the odd ones (1).</summary>
    [MethodImpl(Inlined)]
    public static Words4 OfTwo(KeyWords words, int step, Words2 levels)
    {
        int even = Lane.And(words.A.X >>> (2 * step), 0x33333333);
        int odd = Lane.And(words.A.Y >>> (2 * step), 0x33333333);
        return KeyOperands.Of(Look(even, levels), Look(odd, levels), Look(even >>> 16, levels), Look(odd >>> 16, levels));
    }

    // Nibbles of two bits and the third, which lies at bit 0, 1, 2, 3 of the nibble for the steps in turn.
    [MethodImpl(Inlined)]
    private static int Nibbles(int pairs, int thirds, int step)
    {
        int low = Lane.And((step & 1) == 0 ? pairs : pairs >>> 2, 0x33333333);
        int high = step == 0 ? thirds << 2 : step == 1 ? thirds << 1 : step == 2 ? thirds : thirds >>> 1;
        return low | Lane.And(high, 0x44444444);
    }

    [MethodImpl(Inlined)]
    private static int Look(int codes, Words2 levels) => Lane.Permute(levels.X, levels.Y, codes);

    private static Words2 Of(int x, int y)
    {
        Words2 words = default;
        words.X = x;
        words.Y = y;
        return words;
    }
}

/// <summary>Elements of 8 bits to binary16.</summary>
internal static class EightBits
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>FP8 numbers in the even bytes to binary16 numbers 2^8 times as small: the exponent's bias is 8 more there.</summary>
    [MethodImpl(Inlined)]
    public static int Even(int word) => ((word << 8) & unchecked((int)0x80008000)) | ((word << 7) & 0x3F803F80);

    /// <summary>FP8 numbers in the odd bytes.</summary>
    [MethodImpl(Inlined)]
    public static int Odd(int word) => (word & unchecked((int)0x80008000)) | ((word >>> 1) & 0x3F803F80);
}
