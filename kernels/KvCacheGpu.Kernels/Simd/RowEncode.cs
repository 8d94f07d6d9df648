using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Up to as many rows as there are lanes, padded with zeros and in the basis of their format, to codes and scales: binary32 throughout, and
/// no fused product, so that codes are the same bits on every tier. Each method tells whether the scales fit binary16.
/// </summary>
internal static unsafe class RowEncode<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the sum.
    private const float RoundingBias = 12582912f;
    private const uint HalfInfinity = 0x7C00;

    /// <summary>I8. The clamp of the definition never binds: the scale is rounded up.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToI8(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        float* parts = scratch.Parts;
        for (int t = 0; t < tokens; t++)
        {
            S.Store(parts + (t * S.Lanes), RowFold<S, F, I>.Magnitude(rows + (t * stride), stride));
        }

        RowFold<S, F, I>.Lanes<MaxFold>(parts, scratch.Turned);
        uint worst = 0;
        for (int t = 0; t < tokens; t++)
        {
            uint half = Bits16.HalfRoundUpFromSingleBits(BitConverter.SingleToUInt32Bits(parts[t] / 127f));
            to.Scales[token + t] = (ushort)half;
            scratch.Factors[t] = 1f / PagePart.Single((ushort)half);
            worst = Math.Max(worst, half);
        }

        F bias = S.All(RoundingBias);
        bool isDirect = !to.IsKeys && to.Width % S.Lanes == 0;
        for (int t = 0; t < tokens; t++)
        {
            float* row = rows + (t * stride);
            F inverse = S.All(scratch.Factors[t]);
            byte* codes = isDirect ? (byte*)Target(scratch, to, token, t) : scratch.Codes;
            for (int i = 0; i < stride; i += S.Lanes)
            {
                S.StoreBytes(codes + i, S.AsInt(S.Add(S.Multiply(S.Load(row + i), inverse), bias)));
            }

            if (!isDirect)
            {
                PackCodes.Pack(PageFormat.I8, codes, to.Width, Target(scratch, to, token, t));
            }
        }

        return worst < HalfInfinity;
    }

    /// <summary>r of each row to the part's first plane; its reciprocal, or 0, to the factors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Rms(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        SquareSums(scratch, rows, stride, tokens);
        uint worst = 0;
        for (int t = 0; t < tokens; t++)
        {
            uint half = Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(MathF.Sqrt(scratch.Parts[t] / to.Width)));
            to.Scales[token + t] = (ushort)half;
            scratch.Factors[t] = half == 0 ? 0 : 1f / PagePart.Single((ushort)half);
            worst = Math.Max(worst, half);
        }

        return worst < HalfInfinity;
    }

    /// <summary>Rows times their factors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(in EncodeScratch scratch, float* rows, int stride, int tokens)
    {
        for (int t = 0; t < tokens; t++)
        {
            F factor = S.All(scratch.Factors[t]);
            for (float* x = rows + (t * stride), end = x + stride; x < end; x += S.Lanes)
            {
                S.Store(x, S.Multiply(S.Load(x), factor));
            }
        }
    }

    /// <summary>T formats' codes and gains g of rows that are divided by r, less the mean.</summary>
    public static bool ToGained(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        float* norms = scratch.Offsets;
        SquareSums(scratch, rows, stride, tokens);
        float root = MathF.Sqrt(to.Width);
        for (int t = 0; t < tokens; t++)
        {
            norms[t] = MathF.Sqrt(scratch.Parts[t]);
            scratch.Factors[t] = scratch.Parts[t] > 0 ? root / norms[t] : 0;
        }

        ToLevels(scratch, rows, stride, to, token, tokens, sumsLevels: true);
        RowFold<S, F, I>.Lanes<AddFold>(scratch.Parts, scratch.Turned);
        uint worst = 0;
        for (int t = 0; t < tokens; t++)
        {
            float gain = norms[t] > 0 ? norms[t] / MathF.Sqrt(scratch.Parts[t]) : 0;
            uint half = Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(gain));
            to.Scales[to.ScaleStride + token + t] = (ushort)half;
            worst = Math.Max(worst, half);
        }

        return worst < HalfInfinity;
    }

    /// <summary>Lloyd-Max codes of rows times their factors; where wanted, the sums of the levels' squares, not yet over lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToLevels(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens, bool sumsLevels)
    {
        int bits = to.Format.BitsPerElement();
        float* tables = CodeTables.Of(bits);
        byte* codes = scratch.Codes;
        float* fold = scratch.Fold;
        int padding = PackCodes.BytesFor(to.Width) - to.Width;
        for (int t = 0; t < tokens; t++)
        {
            float* row = rows + (t * stride);
            if (S.PicksFrom32)
            {
                Search(row, stride, scratch.Factors[t], tables, codes, fold);
            }
            else
            {
                Count(row, stride, scratch.Factors[t], tables, (1 << bits) - 1, codes);
                for (int i = 0; sumsLevels && i < to.Width; i++)
                {
                    fold[i] = tables[CodeTables.Squares + codes[i]];
                }
            }

            if (padding > 0)
            {
                new Span<byte>(codes + to.Width, padding).Clear();
                new Span<float>(fold + to.Width, stride - to.Width).Clear();
            }

            if (sumsLevels)
            {
                S.Store(scratch.Parts + (t * S.Lanes), RowFold<S, F, I>.SquareSum(fold, stride, fold + stride, squares: true));
            }

            PackCodes.Pack(to.Format, codes, to.Width, Target(scratch, to, token, t));
        }
    }

    /// <summary>V4: for each group its minimum and the step that reaches its maximum, then codes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToGroups(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        int group = PageFormat.V4.ScaleGroup(to.Width);
        uint worst = 0;
        var packed = (byte*)scratch.Packed;
        int codeStride = stride * sizeof(int);
        F bias = S.All(RoundingBias);
        for (int plane = 0, start = 0; start < to.Width; plane += 2, start += group)
        {
            Extremes(scratch, rows + start, stride, group, tokens);
            ushort* scales = to.Scales + (plane * to.ScaleStride) + token;
            for (int t = 0; t < tokens; t++)
            {
                uint least = Bits16.HalfFloorFromSingleBits(BitConverter.SingleToUInt32Bits(scratch.Parts[t]));
                float minimum = PagePart.Single((ushort)least);
                uint step = Bits16.HalfRoundUpFromSingleBits(BitConverter.SingleToUInt32Bits((scratch.Fold[t] - minimum) / 15f));
                scales[t] = (ushort)step;
                scales[to.ScaleStride + t] = (ushort)least;
                worst = Math.Max(worst, Math.Max(step, least & 0x7FFF));
                F m = S.All(minimum), inverse = S.All(1f / PagePart.Single((ushort)step));
                float* row = rows + start + (t * stride);
                for (int i = 0; i < group; i += S.Lanes)
                {
                    // Neither end of the definition's clamp binds: the minimum is rounded down, the step up.
                    F code = S.Multiply(S.Subtract(S.Load(row + i), m), inverse);
                    S.StoreBytes(packed + (t * codeStride) + start + i, S.AsInt(S.Add(code, bias)));
                }
            }
        }

        int padding = PackCodes.BytesFor(to.Width) - to.Width;
        for (int t = 0; t < tokens; t++)
        {
            byte* codes = packed + (t * codeStride);
            new Span<byte>(codes + to.Width, padding).Clear();
            PackCodes.Pack(PageFormat.V4, codes, to.Width, to.Words + ((long)(token + t) * to.RowWords));
        }

        return worst < HalfInfinity;
    }

    /// <summary>FP8, q8_0 and q4_0, element by element: formats of exchange.</summary>
    public static bool ToExchange(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        uint worst = 0;
        for (int t = 0; t < tokens; t++, rows += stride)
        {
            for (int i = 0; to.Format == PageFormat.FP8 && i < to.Width; i++)
            {
                scratch.Codes[i] = (byte)Bits8.Fp8FromSingleBits(BitConverter.SingleToUInt32Bits(rows[i]));
            }

            for (int block = 0; block < to.Planes; block++)
            {
                int first = block * GgmlBlocks.Elements;
                ushort d = GgmlBlocks.Encode(
                    to.Format, new ReadOnlySpan<float>(rows + first, GgmlBlocks.Elements), new Span<byte>(scratch.Codes + first, GgmlBlocks.Elements));
                to.Scales[(block * to.ScaleStride) + token + t] = d;
                worst = Math.Max(worst, d & 0x7FFFu);
            }

            PackCodes.Pack(to.Format, scratch.Codes, to.Width, Target(scratch, to, token, t));
        }

        return worst < HalfInfinity;
    }

    /// <summary>Full precision; rows lie within what the format holds.</summary>
    public static void ToFull(in EncodeScratch scratch, float* rows, int stride, in PagePart to, int token, int tokens)
    {
        for (int t = 0; t < tokens; t++, rows += stride)
        {
            if (to.IsKeys)
            {
                PackVector<S, F, I>.Pack(to.Format, rows, stride, Target(scratch, to, token, t));
                continue;
            }

            PackVector<S, F, I>.Pack(to.Format, rows, stride, scratch.Packed);
            new Span<int>(scratch.Packed, to.RowWords).CopyTo(new Span<int>(Target(scratch, to, token, t), to.RowWords));
        }
    }

    // Values go where they belong; keys wait to be transposed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int* Target(in EncodeScratch scratch, in PagePart to, int token, int t) => to.IsKeys
        ? scratch.Packed + (t * WordRows<S, F, I>.StrideOf(to.RowWords))
        : to.Words + ((long)(token + t) * to.RowWords);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SquareSums(in EncodeScratch scratch, float* rows, int stride, int tokens)
    {
        float* parts = scratch.Parts;
        for (int t = 0; t < tokens; t++)
        {
            S.Store(parts + (t * S.Lanes), RowFold<S, F, I>.SquareSum(rows + (t * stride), stride, scratch.Fold, squares: false));
        }

        RowFold<S, F, I>.Lanes<AddFold>(parts, scratch.Turned);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Search(float* row, int stride, float factor, float* tables, byte* codes, float* fold)
    {
        F low = S.Load(tables), high = S.Load(tables + 16);
        F below = S.Load(tables + CodeTables.Below), belowHigh = S.Load(tables + CodeTables.Below + 16);
        F squares = S.Load(tables + CodeTables.Squares);
        F all = S.All(factor), end = S.All(CodeTables.Clamp), start = S.All(-CodeTables.Clamp);
        F perUnit = S.All(CodeTables.BucketsPerUnit), bias = S.All(CodeTables.BucketBias);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F z = S.Multiply(S.Load(row + i), all);
            I bucket = S.AsInt(S.MultiplyAdd(S.Max(start, S.Min(end, z)), perUnit, bias));
            I code = S.CountAbove(S.AsInt(S.Pick32(below, belowHigh, bucket)), S.Pick32(low, high, bucket), z);
            S.StoreBytes(codes + i, code);
            S.Store(fold + i, S.Pick32(squares, squares, code));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Count(float* row, int stride, float factor, float* tables, int boundaries, byte* codes)
    {
        F all = S.All(factor);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F z = S.Multiply(S.Load(row + i), all);
            I code = S.AllInt(0);
            for (int k = 0; k < boundaries; k++)
            {
                code = S.CountAbove(code, S.All(tables[CodeTables.All + k]), z);
            }

            S.StoreBytes(codes + i, code);
        }
    }

    // The least of each row's group in the parts, the largest in the fold.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Extremes(in EncodeScratch scratch, float* rows, int stride, int group, int tokens)
    {
        float* least = scratch.Parts, most = scratch.Fold;
        F rest = S.All(group % S.Lanes);
        for (int t = 0; t < tokens; t++, rows += stride)
        {
            F lowest = S.All(float.PositiveInfinity), highest = S.All(float.NegativeInfinity);
            int i = 0;
            for (; i + S.Lanes <= group; i += S.Lanes)
            {
                F x = S.Load(rows + i);
                (lowest, highest) = (S.Min(lowest, x), S.Max(highest, x));
            }

            if (i < group)
            {
                F x = S.Load(rows + i);
                lowest = S.Min(lowest, S.IfLess(S.Index(), rest, x, lowest));
                highest = S.Max(highest, S.IfLess(S.Index(), rest, x, highest));
            }

            S.Store(least + (t * S.Lanes), lowest);
            S.Store(most + (t * S.Lanes), highest);
        }

        RowFold<S, F, I>.Lanes<LowestFold>(least, scratch.Turned);
        RowFold<S, F, I>.Lanes<HighestFold>(most, scratch.Turned);
    }
}
