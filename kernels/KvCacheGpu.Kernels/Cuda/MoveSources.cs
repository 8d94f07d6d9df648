using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>The words of sixteen neighbouring elements of one token: eight of a 16-bit format, the first four of an 8-bit one.</summary>
internal struct LaneWords
{
    public Words4 Low;
    public Words4 High;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LaneWords Of(Words4 low, Words4 high)
    {
        LaneWords result = default;
        result.Low = low;
        result.High = high;
        return result;
    }

    /// <summary>The words where all bits of <paramref name="mask"/> are set, zeros where it is 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LaneWords Masked(LaneWords words, int mask) => Of(Masked(words.Low, mask), Masked(words.High, mask));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Words4 Words(int x, int y, int z, int w)
    {
        Words4 result = default;
        result.X = x;
        result.Y = y;
        result.Z = z;
        result.W = w;
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Words4 Masked(Words4 words, int mask) => Words(words.X & mask, words.Y & mask, words.Z & mask, words.W & mask);
}

/// <summary>A format that pages are written from, as the warp kernels read it. Constants, folded by the compiler.</summary>
internal interface IMoveSource
{
    /// <summary>Words of sixteen elements: 8 or 4.</summary>
    int Words { get; }

    /// <summary>True if vectors lie in the rotated basis, and each has a scale.</summary>
    bool IsRotated { get; }

    /// <summary>The elements, exactly as the portable codec reads them; <paramref name="scale"/> is used where there is one.</summary>
    Sixteen Decode(LaneWords words, float scale);
}

/// <summary>binary16.</summary>
internal readonly struct F16Source : IMoveSource
{
    public int Words => 8;

    public bool IsRotated => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Sixteen Decode(LaneWords words, float scale) =>
        Sixteen.Of(Pairs(words.Low.X, words.Low.Y), Pairs(words.Low.Z, words.Low.W), Pairs(words.High.X, words.High.Y), Pairs(words.High.Z, words.High.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Pairs(int a, int b) => Four.Of(Lane.LowHalf(a), Lane.HighHalf(a), Lane.LowHalf(b), Lane.HighHalf(b));
}

/// <summary>bfloat16.</summary>
internal readonly struct BF16Source : IMoveSource
{
    public int Words => 8;

    public bool IsRotated => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Sixteen Decode(LaneWords words, float scale) =>
        Sixteen.Of(Pairs(words.Low.X, words.Low.Y), Pairs(words.Low.Z, words.Low.W), Pairs(words.High.X, words.High.Y), Pairs(words.High.Z, words.High.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Pairs(int a, int b) => Four.Of(Low(a), High(a), Low(b), High(b));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Low(int word) => ILGPU.Interop.IntAsFloat((uint)word << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float High(int word) => ILGPU.Interop.IntAsFloat((uint)word & 0xFFFF0000);
}

/// <summary>8-bit codes with a scale.</summary>
internal readonly struct I8Source : IMoveSource
{
    public int Words => 4;

    public bool IsRotated => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Sixteen Decode(LaneWords words, float scale) =>
        Sixteen.Scaled(Sixteen.Of(Bytes(words.Low.X), Bytes(words.Low.Y), Bytes(words.Low.Z), Bytes(words.Low.W)), scale);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Bytes(int word) => Four.Of((word << 24) >> 24, (word << 16) >> 24, (word << 8) >> 24, word >> 24);
}
