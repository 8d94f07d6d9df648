using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Codes of the formats of exchange: those of <see cref="GgmlCodes"/> and <see cref="Bits8"/>, bit for bit, as many at once as there are lanes. What is rare goes to these themselves: numbers
/// that are not finite, blocks whose largest elements are equal but for their signs, scales without a finite reciprocal.
/// </summary>
internal static unsafe class VectorExchange<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const int Infinity = 0x7F800000;

    // 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the sum.
    private const float RoundingBias = 12582912f;

    /// <summary>FP8 codes of a vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToFp8(float* x, int width, byte* codes)
    {
        I all = S.AllInt(-1), magnitude = S.AllInt(int.MaxValue), notLargest = S.AllInt(~0x43E00000);
        I one = S.AllInt(1), rebase = S.AllInt(0x7FFFF - 0x3C000000), four = S.AllInt(0xF), sign = S.AllInt(0x80);
        F units = S.All(512f), bias = S.All(8388608f), least = S.All(1f / 64);
        for (int i = 0; i < width; i += S.Lanes)
        {
            I bits = S.AsInt(S.Load(x + i));

            // The smaller of two is the larger of what they are not. NaN is beyond the largest, too.
            I bounded = S.AndXor(S.MaxInt(S.AndXor(S.And(bits, magnitude), all, all), notLargest), all, all);
            I normal = S.ShiftRight(S.AddInt(S.AddInt(bounded, rebase), S.And(S.ShiftRight(bounded, 20), one)), 20);
            I subnormal = S.And(S.AsInt(S.Add(S.Multiply(S.AsFloat(bounded), units), bias)), four);
            I code = S.AsInt(S.IfLess(S.AsFloat(bounded), least, S.AsFloat(subnormal), S.AsFloat(normal)));
            S.StoreBytes(codes + i, S.Or(code, S.And(S.ShiftRight(bits, 24), sign)));
        }
    }

    /// <summary>Codes of a vector in blocks of <see cref="GgmlCodes.Elements"/>, and each block's scale as binary16 bits, four blocks at once.</summary>
    /// <param name="isQ8">q8_0; else q4_0.</param>
    /// <param name="x">The vector.</param>
    /// <param name="blocks">Its blocks.</param>
    /// <param name="codes">Receives a code a byte.</param>
    /// <param name="scales">Receives the scales.</param>
    /// <param name="scaleStride">From one block's scale to the next.</param>
    /// <returns>The largest of the scales' magnitudes.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static uint ToBlocks(bool isQ8, float* x, int blocks, byte* codes, ushort* scales, int scaleStride)
    {
        uint worst = 0;
        float* d = stackalloc float[4];
        float* inverses = stackalloc float[4];
        for (int first = 0; first < blocks; first += 4)
        {
            int count = Math.Min(4, blocks - first);
            float* start = x + (first * GgmlCodes.Elements);
            bool isPlain = Scales(isQ8, start, count, d, inverses);
            for (int block = 0; block < count; block++)
            {
                float* own = start + (block * GgmlCodes.Elements);
                byte* to = codes + ((first + block) * GgmlCodes.Elements);
                ushort scale = (ushort)Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(d[block]));
                if (!isPlain)
                {
                    PageFormat format = isQ8 ? PageFormat.Q8 : PageFormat.Q4;
                    scale = GgmlCodes.Encode(format, new ReadOnlySpan<float>(own, GgmlCodes.Elements), new Span<byte>(to, GgmlCodes.Elements));
                }
                else if (isQ8)
                {
                    RoundAway(own, inverses[block], to);
                }
                else
                {
                    RoundDown(own, inverses[block], to);
                }

                scales[(first + block) * scaleStride] = scale;
                worst = Math.Max(worst, scale & 0x7FFFu);
            }
        }

        return worst;
    }

    // The scale d of each block, and 1 / d. False if a block is none of the usual.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Scales(bool isQ8, float* x, int count, float* d, float* inverses)
    {
        // Four blocks, of fewer the last again.
        int one = GgmlCodes.Elements * Math.Min(1, count - 1), two = GgmlCodes.Elements * Math.Min(2, count - 1), three = GgmlCodes.Elements * (count - 1);
        I largest = S.AllInt(0);
        (F high0, F low0) = Extremes(x, ref largest);
        (F high1, F low1) = Extremes(x + one, ref largest);
        (F high2, F low2) = Extremes(x + two, ref largest);
        (F high3, F low3) = Extremes(x + three, ref largest);
        Vector128<float> high = S.LargestOf(high0, high1, high2, high3);
        Vector128<float> low = S.LargestOf(low0, low1, low2, low3);
        Vector128<float> scale = isQ8
            ? Vector128.Max(high, low) / 127f
            : Vector128.ConditionalSelect(Vector128.GreaterThan(high, low), high, -low) / -8f;
        Vector128<float> inverse = Vector128.ConditionalSelect(Vector128.Equals(scale, Vector128<float>.Zero), Vector128<float>.Zero, Vector128<float>.One / scale);
        scale.Store(d);
        inverse.Store(inverses);
        bool isPlain = Vector128.LessThanOrEqualAll(Vector128.Abs(inverse), Vector128.Create(float.MaxValue)) && (isQ8 || !Vector128.EqualsAny(high, low));
        int* lanes = stackalloc int[32];
        S.StoreInt(lanes, largest);
        for (int lane = 0; lane < S.Lanes; lane++)
        {
            isPlain &= lanes[lane] < Infinity;
        }

        return isPlain;
    }

    // The largest element and the largest of their negatives, by lanes; the magnitudes' bits to the largest so far.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (F High, F Low) Extremes(float* x, ref I largest)
    {
        F zero = S.All(0f);
        I magnitude = S.AllInt(int.MaxValue);
        F high = S.Load(x);
        F low = S.Subtract(zero, high);
        largest = S.MaxInt(largest, S.And(S.AsInt(high), magnitude));
        for (int i = S.Lanes; i < GgmlCodes.Elements; i += S.Lanes)
        {
            F next = S.Load(x + i);
            (high, low) = (S.Max(high, next), S.Max(low, S.Subtract(zero, next)));
            largest = S.MaxInt(largest, S.And(S.AsInt(next), magnitude));
        }

        return (high, low);
    }

    // To the nearest integer, of two the one that is farther from zero. No element is beyond 127 of its block's scale by more than rounding.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundAway(float* x, float inverse, byte* codes)
    {
        F all = S.All(inverse), bias = S.All(RoundingBias), zero = S.All(0f), one = S.All(1f), minusOne = S.All(-1f), half = S.All(.5f), minusHalf = S.All(-.5f);
        for (int i = 0; i < GgmlCodes.Elements; i += S.Lanes)
        {
            F scaled = S.Multiply(S.Load(x + i), all);
            F even = S.Subtract(S.Add(scaled, bias), bias);
            F rest = S.Subtract(scaled, even);
            F away = S.IfLess(scaled, zero, S.IfLess(minusHalf, rest, zero, minusOne), S.IfLess(rest, half, zero, one));
            S.StoreBytes(codes + i, S.AsInt(S.Add(S.Add(even, away), bias)));
        }
    }

    // The integer below x / d + 8.5, 15 at most.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundDown(float* x, float inverse, byte* codes)
    {
        F all = S.All(inverse), bias = S.All(RoundingBias), middle = S.All(8.5f), one = S.All(1f), most = S.All(15f);
        for (int i = 0; i < GgmlCodes.Elements; i += S.Lanes)
        {
            F shifted = S.Add(S.Multiply(S.Load(x + i), all), middle);
            F even = S.Subtract(S.Add(shifted, bias), bias);
            F below = S.IfLess(shifted, even, S.Subtract(even, one), even);
            S.StoreBytes(codes + i, S.AsInt(S.Add(S.Min(most, below), bias)));
        }
    }
}
