using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Four neighbouring elements in registers.</summary>
internal struct Four
{
    public float X;
    public float Y;
    public float Z;
    public float W;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Of(float x, float y, float z, float w)
    {
        Four result = default;
        result.X = x;
        result.Y = y;
        result.Z = z;
        result.W = w;
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Sum(Four a, Four b) => Of(MoveAsm.Add(a.X, b.X), MoveAsm.Add(a.Y, b.Y), MoveAsm.Add(a.Z, b.Z), MoveAsm.Add(a.W, b.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Difference(Four a, Four b) => Of(a.X - b.X, a.Y - b.Y, a.Z - b.Z, a.W - b.W);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Product(Four a, Four b) => Of(MoveAsm.Mul(a.X, b.X), MoveAsm.Mul(a.Y, b.Y), MoveAsm.Mul(a.Z, b.Z), MoveAsm.Mul(a.W, b.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Scaled(Four a, float b) => Product(a, Of(b, b, b, b));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Minimum(Four a, Four b) =>
        Of(MoveAsm.Min(a.X, b.X), MoveAsm.Min(a.Y, b.Y), MoveAsm.Min(a.Z, b.Z), MoveAsm.Min(a.W, b.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Maximum(Four a, Four b) =>
        Of(Lane.Max(a.X, b.X), Lane.Max(a.Y, b.Y), Lane.Max(a.Z, b.Z), Lane.Max(a.W, b.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Magnitude(Four a) => Maximum(a, Of(-a.X, -a.Y, -a.Z, -a.W));

    /// <summary>The same elements of the lane whose number differs in the bits of <paramref name="mask"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four From(Four a, int mask) =>
        Of(Warp.ShuffleXor(a.X, mask), Warp.ShuffleXor(a.Y, mask), Warp.ShuffleXor(a.Z, mask), Warp.ShuffleXor(a.W, mask));

    /// <summary>a in lanes where <paramref name="isFirst"/>, else b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Select(bool isFirst, Four a, Four b) =>
        Of(isFirst ? a.X : b.X, isFirst ? a.Y : b.Y, isFirst ? a.Z : b.Z, isFirst ? a.W : b.W);

    /// <summary>The butterflies of elements that lie 1 and 2 apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Butterflies(Four a)
    {
        Four one = Of(a.X + a.Y, a.X - a.Y, a.Z + a.W, a.Z - a.W);
        return Of(one.X + one.Z, one.Y + one.W, one.X - one.Z, one.Y - one.W);
    }

    /// <summary>The butterfly with another lane: <paramref name="sign"/> is 1 in the lane of the lower elements, -1 in the other.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Four Across(Four a, int mask, float sign)
    {
        Four other = From(a, mask);
        return Of(Lane.Fma(a.X, sign, other.X), Lane.Fma(a.Y, sign, other.Y), Lane.Fma(a.Z, sign, other.Z), Lane.Fma(a.W, sign, other.W));
    }

    /// <summary>NaN if one of them, or <paramref name="sum"/>, is NaN or an infinity; else 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Doubt(Four a, float sum) =>
        Lane.Fma(a.X, 0f, Lane.Fma(a.Y, 0f, Lane.Fma(a.Z, 0f, Lane.Fma(a.W, 0f, sum))));
}

/// <summary>
/// A lane's part of a vector: sixteen neighbouring elements in registers. Lane r of the group of <c>lanes</c> lanes (a power of two) that share a vector has
/// elements 16 r to 16 r + 15; lanes beyond the width hold zeros. Every operation across lanes is called by all lanes of the warp.
/// </summary>
internal struct Sixteen
{
    public Four A;
    public Four B;
    public Four C;
    public Four D;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Of(Four a, Four b, Four c, Four d)
    {
        Sixteen result = default;
        result.A = a;
        result.B = b;
        result.C = c;
        result.D = d;
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Product(Sixteen a, Sixteen b) =>
        Of(Four.Product(a.A, b.A), Four.Product(a.B, b.B), Four.Product(a.C, b.C), Four.Product(a.D, b.D));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Scaled(Sixteen a, float b) => Of(Four.Scaled(a.A, b), Four.Scaled(a.B, b), Four.Scaled(a.C, b), Four.Scaled(a.D, b));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Difference(Sixteen a, Sixteen b) =>
        Of(Four.Difference(a.A, b.A), Four.Difference(a.B, b.B), Four.Difference(a.C, b.C), Four.Difference(a.D, b.D));

    /// <summary>1 if one of them is NaN or an infinity, else 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int IsNotFinite(Sixteen a) => Four.Doubt(a.A, Four.Doubt(a.B, Four.Doubt(a.C, Four.Doubt(a.D, 0f)))) == 0f ? 0 : 1;

    /// <summary>The butterflies of <see cref="Rotation"/> over blocks of <paramref name="block"/> elements, and its norm.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Transform(Sixteen a, int block, int lane, float norm)
    {
        (Four p, Four q, Four r, Four s) = (Four.Butterflies(a.A), Four.Butterflies(a.B), Four.Butterflies(a.C), Four.Butterflies(a.D));
        Sixteen four = Of(Four.Sum(p, q), Four.Difference(p, q), Four.Sum(r, s), Four.Difference(r, s));
        Sixteen x = Of(Four.Sum(four.A, four.C), Four.Sum(four.B, four.D), Four.Difference(four.A, four.C), Four.Difference(four.B, four.D));
        for (int mask = 1; mask < block / 16; mask <<= 1)
        {
            float sign = (lane & mask) == 0 ? 1f : -1f;
            x = Of(Four.Across(x.A, mask, sign), Four.Across(x.B, mask, sign), Four.Across(x.C, mask, sign), Four.Across(x.D, mask, sign));
        }

        return Scaled(x, norm);
    }

    /// <summary>The largest magnitude of the vector, in all its lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float AbsoluteMax(Sixteen a, int lanes)
    {
        Four most = Four.Maximum(
            Four.Maximum(Four.Magnitude(a.A), Four.Magnitude(a.B)), Four.Maximum(Four.Magnitude(a.C), Four.Magnitude(a.D)));
        return Largest(Lane.Max(Lane.Max(most.X, most.Y), Lane.Max(most.Z, most.W)), lanes);
    }

    /// <summary>The largest element of each run of <paramref name="lanes"/> lanes, in all of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Maximum(Sixteen a, int lanes)
    {
        Four most = Four.Maximum(Four.Maximum(a.A, a.B), Four.Maximum(a.C, a.D));
        return Largest(Lane.Max(Lane.Max(most.X, most.Y), Lane.Max(most.Z, most.W)), lanes);
    }

    /// <summary>The smallest element of each run of <paramref name="lanes"/> lanes, in all of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Minimum(Sixteen a, int lanes)
    {
        Four least = Four.Minimum(Four.Minimum(a.A, a.B), Four.Minimum(a.C, a.D));
        float x = MoveAsm.Min(MoveAsm.Min(least.X, least.Y), MoveAsm.Min(least.Z, least.W));
        for (int mask = 1; mask < lanes; mask <<= 1)
        {
            x = MoveAsm.Min(x, Warp.ShuffleXor(x, mask));
        }

        return x;
    }

    /// <summary>
    /// The sum of squares in the order of <see cref="Levels"/>, the upper half added to the lower, in all lanes. Halves that lie in two lanes are first shared out
    /// between them, so that each lane adds half of the numbers. Vectors have 4, 8 or 16 lanes.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SquareSum(Sixteen x, int lane, int lanes)
    {
        Sixteen a = Product(x, x);
        int half = lanes >> 1;
        bool isLow = (lane & half) == 0;
        Four p = Four.Sum(Four.Select(isLow, a.A, a.C), Four.From(Four.Select(isLow, a.C, a.A), half));
        Four q = Four.Sum(Four.Select(isLow, a.B, a.D), Four.From(Four.Select(isLow, a.D, a.B), half));
        int quarter = lanes >> 2;
        bool isEven = (lane & quarter) == 0;
        Four s = Four.Sum(Four.Select(isEven, p, q), Four.From(Four.Select(isEven, q, p), quarter));

        // Elements 0..3 of four groups of four by the two masks above; the lanes between them hold other elements' sums.
        for (int mask = lanes >> 3; mask > 0; mask >>= 1)
        {
            s = Four.Sum(s, Four.From(s, mask));
        }

        s = Four.Sum(s, Four.From(s, half));
        s = Four.Sum(s, Four.From(s, quarter));
        return MoveAsm.Add(MoveAsm.Add(s.X, s.Z), MoveAsm.Add(s.Y, s.W));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Largest(float x, int lanes)
    {
        for (int mask = 1; mask < lanes; mask <<= 1)
        {
            x = Lane.Max(x, Warp.ShuffleXor(x, mask));
        }

        return x;
    }
}
