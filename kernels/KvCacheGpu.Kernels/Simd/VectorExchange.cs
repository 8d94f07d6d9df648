using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Codes of the formats of exchange: those of <see cref="GgmlCodes"/> and <see cref="Bits8"/>, bit for bit, of as many tokens at once as there are lanes. What is rare goes to these themselves:
/// numbers that are not finite, blocks whose largest elements are equal but for their signs, scales without a finite reciprocal.
/// </summary>
internal static unsafe class VectorExchange<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const uint HalfInfinity = 0x7C00;

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

    /// <summary>Blocks of <see cref="GgmlCodes.Elements"/> of as many vectors as there are lanes: one scale each, then codes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToBlocks(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens, byte* codes, int codeStride)
    {
        F zero = S.All(0f), one = S.All(1f);
        bool isQ8 = to.Format == PageFormat.Q8, holds = true;
        for (int block = 0; block < to.Planes; block++, vectors += GgmlCodes.Elements, codes += GgmlCodes.Elements)
        {
            F largest = isQ8 ? Magnitudes(scratch, vectors, stride, tokens) : Largest(scratch, vectors, stride, tokens);
            F scale = S.Divide(largest, S.All(isQ8 ? 127f : -8f));
            S.Store(scratch.Parts, largest);
            S.Store(scratch.Factors, S.IfLess(zero, S.Abs(scale), S.Divide(one, scale), zero));
            ushort* scales = to.Scales + (block * to.ScaleStride) + token;
            if (!HalfLanes<S, F, I>.AreFinite(scratch.Parts, tokens) || !HalfLanes<S, F, I>.AreFinite(scratch.Factors, tokens))
            {
                holds &= OneByOne(to.Format, vectors, stride, scales, tokens, codes, codeStride);
                continue;
            }

            I sign = S.And(S.ShiftRight(S.AsInt(scale), 16), S.AllInt(0x8000));
            holds &= HalfLanes<S, F, I>.Write(S.Or(HalfLanes<S, F, I>.Nearest(scale), sign), scales, tokens);
            if (isQ8)
            {
                RoundAway(vectors, stride, scratch.Factors, codes, codeStride, tokens);
            }
            else
            {
                RoundDown(vectors, stride, scratch.Factors, codes, codeStride, tokens);
            }
        }

        return holds;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static F Magnitudes(in EncodeScratch scratch, float* vectors, int stride, int tokens)
    {
        for (int t = 0; t < tokens; t++)
        {
            S.Store(scratch.Parts + (t * S.Lanes), VectorFold<S, F, I>.Magnitude(vectors + (t * stride), GgmlCodes.Elements));
        }

        VectorFold<S, F, I>.Lanes<MaxFold>(scratch.Parts, scratch.Turned);
        return S.Load(scratch.Parts);
    }

    // Each block's largest element by magnitude, with its sign; NaN where two are as large and their signs differ, or where one is no number.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static F Largest(in EncodeScratch scratch, float* vectors, int stride, int tokens)
    {
        bool areNumbers = VectorEncode<S, F, I>.Extremes(scratch, vectors, stride, GgmlCodes.Elements, tokens);
        F none = S.All(float.NaN), zero = S.All(0f);
        F least = S.Load(scratch.Parts), most = S.Load(scratch.Fold), negative = S.Subtract(zero, least);
        F equal = S.IfLess(zero, most, none, zero);
        return areNumbers ? S.IfLess(negative, most, most, S.IfLess(most, negative, least, equal)) : none;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool OneByOne(PageFormat format, float* vectors, int stride, ushort* scales, int tokens, byte* codes, int codeStride)
    {
        uint worst = 0;
        for (int t = 0; t < tokens; t++)
        {
            scales[t] = GgmlCodes.Encode(
                format, new ReadOnlySpan<float>(vectors + (t * stride), GgmlCodes.Elements), new Span<byte>(codes + (t * codeStride), GgmlCodes.Elements));
            worst = Math.Max(worst, scales[t] & 0x7FFFu);
        }

        return worst < HalfInfinity;
    }

    // To the nearest integer, of two the one that is farther from zero. No element is beyond 127 of its block's scale by more than rounding.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundAway(float* vectors, int stride, float* factors, byte* codes, int codeStride, int tokens)
    {
        F bias = S.All(RoundingBias), zero = S.All(0f), one = S.All(1f), minusOne = S.All(-1f), half = S.All(.5f), minusHalf = S.All(-.5f);
        for (int t = 0; t < tokens; t++, vectors += stride, codes += codeStride)
        {
            F inverse = S.All(factors[t]);
            for (int i = 0; i < GgmlCodes.Elements; i += S.Lanes)
            {
                F scaled = S.Multiply(S.Load(vectors + i), inverse);
                F even = S.Subtract(S.Add(scaled, bias), bias);
                F rest = S.Subtract(scaled, even);
                F away = S.IfLess(scaled, zero, S.IfLess(minusHalf, rest, zero, minusOne), S.IfLess(rest, half, zero, one));
                S.StoreBytes(codes + i, S.AsInt(S.Add(S.Add(even, away), bias)));
            }
        }
    }

    // The integer below x / d + 8.5, 15 at most.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundDown(float* vectors, int stride, float* factors, byte* codes, int codeStride, int tokens)
    {
        F bias = S.All(RoundingBias), middle = S.All(8.5f), one = S.All(1f), most = S.All(15f);
        for (int t = 0; t < tokens; t++, vectors += stride, codes += codeStride)
        {
            F inverse = S.All(factors[t]);
            for (int i = 0; i < GgmlCodes.Elements; i += S.Lanes)
            {
                F shifted = S.Add(S.Multiply(S.Load(vectors + i), inverse), middle);
                F even = S.Subtract(S.Add(shifted, bias), bias);
                F below = S.IfLess(shifted, even, S.Subtract(even, one), even);
                S.StoreBytes(codes + i, S.AsInt(S.Add(S.Min(most, below), bias)));
            }
        }
    }
}
