using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>A format that pages are written in, as the warp kernels write it. Constants, folded by the compiler.</summary>
internal interface IMoveTarget
{
    /// <summary>The scales of a vector.</summary>
    Scaling Scales { get; }

    /// <summary>True if vectors lie in the rotated basis.</summary>
    bool IsRotated { get; }

    /// <summary>Bits of a level's code, 0 where codes are numbers.</summary>
    int LevelBits { get; }

    /// <summary>Words of sixteen elements, the words of third bits left out: 4, 2 or 1; 0 where pages keep their codes and get a digest alone.</summary>
    int Words { get; }

    /// <summary>True if the third bits of 32 elements have a word of their own; it then lies behind their two other words.</summary>
    bool HasThirds { get; }

    /// <summary>The codes of sixteen elements, each as (x - <paramref name="offset"/>) * <paramref name="inverse"/>.</summary>
    Words4 Encode(Sixteen x, float offset, float inverse);

    /// <summary>Codes -> the words of a page: <see cref="Words"/> of them, and third bits in the second one.</summary>
    Words4 Pack(Words4 codes);

    /// <summary>The sum of n^2 + n over the levels n + 1/2 of sixteen codes: of their squares, less a quarter each.</summary>
    int Squares(Words4 codes);
}

/// <summary>No format: a page's digest alone.</summary>
internal readonly struct NoTarget : IMoveTarget
{
    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public int Words => 0;

    public bool HasThirds => false;

    public Words4 Encode(Sixteen x, float offset, float inverse) => default;

    public Words4 Pack(Words4 codes) => codes;

    public int Squares(Words4 codes) => 0;
}

/// <summary>FP8 E4M3FN.</summary>
internal readonly struct Fp8Target : IMoveTarget
{
    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public int Words => 4;

    public bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Words4 Encode(Sixteen x, float offset, float inverse) => LaneWords.Words(Word(x.A), Word(x.B), Word(x.C), Word(x.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Word(Four x) => (int)(Code(x.X) | (Code(x.Y) << 8) | (Code(x.Z) << 16) | (Code(x.W) << 24));

    private static uint Code(float x) => Bits8.Fp8FromSingleBits(Interop.FloatAsInt(x));

    public Words4 Pack(Words4 codes) => codes;

    public int Squares(Words4 codes) => 0;
}

/// <summary>8-bit codes with a scale.</summary>
internal readonly struct I8Target : IMoveTarget
{
    public Scaling Scales => Scaling.Vector;

    public bool IsRotated => true;

    public int LevelBits => 0;

    public int Words => 4;

    public bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Words4 Encode(Sixteen x, float offset, float inverse) =>
        LaneWords.Words(Word(x.A, inverse), Word(x.B, inverse), Word(x.C, inverse), Word(x.D, inverse));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Word(Four x, float inverse) => Lane.Permute(
        Lane.Permute(Rounded(x.X, inverse), Rounded(x.Y, inverse), 0x0040), Lane.Permute(Rounded(x.Z, inverse), Rounded(x.W, inverse), 0x0040), 0x5410);

    // As PortableMath.RoundToInt7, whose code is the low byte of this.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Rounded(float x, float inverse) =>
        (int)Interop.FloatAsInt(Lane.Max(MoveAsm.Min(MoveAsm.Mul(x, inverse), 127f), -127f) + 12582912f);

    public Words4 Pack(Words4 codes) => codes;

    public int Squares(Words4 codes) => 0;
}

/// <summary>4-bit codes with a scale and a minimum for each group; even elements in the first word, odd ones in the second.</summary>
internal readonly struct V4Target : IMoveTarget
{
    // What 0x4B400000 in each of the eight that Rounded gives leaves in a word, modulo 2^32.
    private const uint Bias = 0x3F400000;

    public Scaling Scales => Scaling.Group;

    public bool IsRotated => true;

    public int LevelBits => 0;

    public int Words => 2;

    public bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Words4 Encode(Sixteen x, float offset, float inverse)
    {
        uint even = (Pair(x.D.X, x.D.Z, offset, inverse) << 24) + (Pair(x.C.X, x.C.Z, offset, inverse) << 16)
            + (Pair(x.B.X, x.B.Z, offset, inverse) << 8) + Pair(x.A.X, x.A.Z, offset, inverse);
        uint odd = (Pair(x.D.Y, x.D.W, offset, inverse) << 24) + (Pair(x.C.Y, x.C.W, offset, inverse) << 16)
            + (Pair(x.B.Y, x.B.W, offset, inverse) << 8) + Pair(x.A.Y, x.A.W, offset, inverse);
        return LaneWords.Words((int)(even - Bias), (int)(odd - Bias), 0, 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Pair(float a, float b, float offset, float inverse) => Rounded(a, offset, inverse) + (Rounded(b, offset, inverse) << 4);

    // As PortableMath.RoundToNibble, which takes 0x4B400000 off.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Rounded(float x, float offset, float inverse) =>
        Interop.FloatAsInt(Lane.Max(MoveAsm.Min(MoveAsm.Mul(x - offset, inverse), 15f), 0f) + 12582912f);

    public Words4 Pack(Words4 codes) => codes;

    public int Squares(Words4 codes) => 0;
}

/// <summary>How many bits levels have; folded by the compiler.</summary>
internal interface ILevelBits
{
    int Bits { get; }
}

internal readonly struct FourBitLevels : ILevelBits
{
    public int Bits => 4;
}

internal readonly struct ThreeBitLevels : ILevelBits
{
    public int Bits => 3;
}

internal readonly struct TwoBitLevels : ILevelBits
{
    public int Bits => 2;
}

/// <summary>T4, T3, T2, V3, V2: codes of levels.</summary>
internal readonly struct LevelTarget<TBits, TScaling> : IMoveTarget
    where TBits : struct, ILevelBits
    where TScaling : struct, ILevelScaling
{
    public Scaling Scales => default(TScaling).Kind;

    public bool IsRotated => true;

    public int LevelBits => default(TBits).Bits;

    public int Words => default(TBits).Bits == 4 ? 2 : 1;

    public bool HasThirds => default(TBits).Bits == 3;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Words4 Encode(Sixteen x, float offset, float inverse) => LevelCodes.Of<TBits>(x, inverse);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Words4 Pack(Words4 codes) => LevelCodes.Pack<TBits>(codes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Squares(Words4 codes) => LevelCodes.Squares<TBits>(codes);
}

/// <summary>
/// Codes of sixteen levels, first as nibbles in the first two of four words, then as pages hold them. The same codes as <see cref="LevelTable.Code"/>: a level's
/// magnitude is the number of boundaries at or below that of z; a boundary itself counts for negative z alone, because halfway the lower level is taken.
/// </summary>
internal static class LevelCodes
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Words4 Of<TBits>(Sixteen x, float inverse)
        where TBits : struct, ILevelBits =>
        LaneWords.Words(Nibbles<TBits>(x.A, inverse) | (Nibbles<TBits>(x.B, inverse) << 16), Nibbles<TBits>(x.C, inverse) | (Nibbles<TBits>(x.D, inverse) << 16), 0, 0);

    /// <summary><see cref="IMoveTarget.Squares"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Squares<TBits>(Words4 nibbles)
        where TBits : struct, ILevelBits => Squares<TBits>(nibbles.X) + Squares<TBits>(nibbles.Y);

    /// <summary><see cref="IMoveTarget.Pack"/> of nibbles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Words4 Pack<TBits>(Words4 nibbles)
        where TBits : struct, ILevelBits
    {
        if (default(TBits).Bits == 4)
        {
            return nibbles;
        }

        int pairs = Pairs(nibbles.X) | (Pairs(nibbles.Y) << 16);
        return LaneWords.Words(pairs, default(TBits).Bits == 3 ? Thirds(nibbles.X) | (Thirds(nibbles.Y) << 16) : 0, 0, 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Nibbles<TBits>(Four x, float inverse)
        where TBits : struct, ILevelBits =>
        Code<TBits>(MoveAsm.Mul(x.X, inverse)) | (Code<TBits>(MoveAsm.Mul(x.Y, inverse)) << 4)
        | (Code<TBits>(MoveAsm.Mul(x.Z, inverse)) << 8) | (Code<TBits>(MoveAsm.Mul(x.W, inverse)) << 12);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Code<TBits>(float z)
        where TBits : struct, ILevelBits
    {
        bool isPositive = z > 0f;
        int m = (int)(Interop.FloatAsInt(z) & 0x7FFFFFFF) - (isPositive ? 1 : 0);
        int sign = isPositive ? 1 << (default(TBits).Bits - 1) : 0;
        if (default(TBits).Bits == 2)
        {
            return sign | (m >= Boundary(2, 0) ? 1 : 0);
        }

        if (default(TBits).Bits == 3)
        {
            bool isUpper = m >= Boundary(3, 1);
            return sign | (isUpper ? 2 : 0) | (m >= (isUpper ? Boundary(3, 2) : Boundary(3, 0)) ? 1 : 0);
        }

        bool isHigh = m >= Boundary(4, 3);
        bool isMore = m >= (isHigh ? Boundary(4, 5) : Boundary(4, 1));
        int low = isMore ? Boundary(4, 2) : Boundary(4, 0);
        int high = isMore ? Boundary(4, 6) : Boundary(4, 4);
        return sign | (isHigh ? 4 : 0) | (isMore ? 2 : 0) | (m >= (isHigh ? high : low) ? 1 : 0);
    }

    // The bits of the boundary above the k-th magnitude.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Boundary(int bits, int k) => (int)Interop.FloatAsInt(LevelTable.Boundary(bits, (1 << (bits - 1)) + k));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Squares<TBits>(int nibbles)
        where TBits : struct, ILevelBits
    {
        int select = nibbles & (default(TBits).Bits == 4 ? 0x77777777 : default(TBits).Bits == 3 ? 0x33333333 : 0x11111111);
        int low = Lane.Permute(Magnitudes(default(TBits).Bits, 0), Magnitudes(default(TBits).Bits, 4), select);
        int high = Lane.Permute(Magnitudes(default(TBits).Bits, 0), Magnitudes(default(TBits).Bits, 4), (int)((uint)select >> 16));
        return MoveAsm.Dot(low, low, MoveAsm.Dot(low, 0x01010101, MoveAsm.Dot(high, high, MoveAsm.Dot(high, 0x01010101, 0))));
    }

    // n of four magnitudes from the k-th on, in bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Magnitudes(int bits, int k) =>
        k >= 1 << (bits - 1) ? 0 : Magnitude(bits, k) | (Magnitude(bits, k + 1) << 8) | (Magnitude(bits, k + 2) << 16) | (Magnitude(bits, k + 3) << 24);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Magnitude(int bits, int k) => k >= 1 << (bits - 1) ? 0 : (int)LevelTable.Level(bits, (1 << (bits - 1)) + k);

    // The low two bits of eight nibbles, side by side.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Pairs(int nibbles)
    {
        int bits = nibbles & 0x33333333;
        bits = (bits | (bits >> 2)) & 0x0F0F0F0F;
        bits = (bits | (bits >> 4)) & 0x00FF00FF;
        return (bits | (bits >> 8)) & 0xFFFF;
    }

    // The third bits of eight nibbles: those of each two elements in the low half of a nibble.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Thirds(int nibbles)
    {
        int bits = (nibbles >> 2) & 0x11111111;
        bits = (bits | (bits >> 3)) & 0x03030303;
        bits = (bits | (bits >> 4)) & 0x00FF00FF;
        return (bits | (bits >> 8)) & 0xFFFF;
    }
}
