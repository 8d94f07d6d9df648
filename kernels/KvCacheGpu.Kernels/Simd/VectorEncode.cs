using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Up to as many vectors as there are lanes, padded with zeros and in the basis of their format, to codes and scales: binary32 throughout, and
/// no fused product, so that codes are the same bits on every tier. Each method returns true if the scales fit binary16.
/// </summary>
internal static unsafe class VectorEncode<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the sum.
    private const float RoundingBias = 12582912f;

    /// <summary>I8. The clamp of the definition never binds: the scale is rounded up.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToI8(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens)
    {
        float* parts = scratch.Parts;
        for (int t = 0; t < tokens; t++)
        {
            S.Store(parts + (t * S.Lanes), VectorFold<S, F, I>.Magnitude(vectors + (t * stride), stride));
        }

        VectorFold<S, F, I>.Lanes<MaxFold>(parts, scratch.Turned);
        I scales = HalfLanes<S, F, I>.Up(S.Divide(S.Load(parts), S.All(127f)));
        S.Store(scratch.Factors, S.Divide(S.All(1f), HalfLanes<S, F, I>.Widen(scales)));
        bool holds = HalfLanes<S, F, I>.AreFinite(parts, tokens) & HalfLanes<S, F, I>.Write(scales, to.Scales + token, tokens);
        if (to.IsKeys || to.Width % S.Lanes == 0)
        {
            var codes = (byte*)Target(scratch, to, token, 0);
            Round(vectors, stride, to.Width, scratch.Factors, codes, sizeof(int) * TargetStride(to), tokens);
            return holds;
        }

        for (int t = 0; t < tokens; t++)
        {
            Round(vectors + (t * stride), stride, to.Width, scratch.Factors + t, scratch.Codes, 0, 1);
            PackCodes.Pack(PageFormat.I8, scratch.Codes, to.Width, Target(scratch, to, token, t));
        }

        return holds;
    }

    /// <summary>r of each vector to the part's first plane; unit / r, or 0, to the factors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Rms(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens, float unit)
    {
        SquareSums(scratch, vectors, stride, tokens);
        F squares = S.Load(scratch.Parts);
        I r = HalfLanes<S, F, I>.Nearest(S.Sqrt(S.Divide(squares, S.All(to.Width))));
        F wide = HalfLanes<S, F, I>.Widen(r);
        F zero = S.All(0f);
        S.Store(scratch.Factors, S.IfLess(zero, wide, S.Divide(S.All(unit), wide), zero));
        return HalfLanes<S, F, I>.AreFinite(scratch.Parts, tokens) & HalfLanes<S, F, I>.Write(r, to.Scales + token, tokens);
    }

    /// <summary>Vectors times their factors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(in EncodeScratch scratch, float* vectors, int stride, int tokens)
    {
        for (int t = 0; t < tokens; t++)
        {
            F factor = S.All(scratch.Factors[t]);
            for (float* x = vectors + (t * stride), end = x + stride; x < end; x += S.Lanes)
            {
                S.Store(x, S.Multiply(S.Load(x), factor));
            }
        }
    }

    /// <summary>T formats' codes and gains g of vectors that are divided by r, less the mean.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToGained(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens)
    {
        SquareSums(scratch, vectors, stride, tokens);
        F squares = S.Load(scratch.Parts);
        F zero = S.All(0f);
        F norm = S.Sqrt(squares);
        S.Store(scratch.Factors, S.IfLess(zero, squares, S.Divide(S.All(MathF.Sqrt(to.Width) * Levels.Unit(to.Format.BitsPerElement())), norm), zero));
        S.Store(scratch.Offsets, norm);
        ToLevels(scratch, vectors, stride, to, token, tokens, sumsLevels: true);
        VectorFold<S, F, I>.Lanes<AddFold>(scratch.Parts, scratch.Turned);
        norm = S.Load(scratch.Offsets);
        F gain = S.IfLess(zero, norm, S.Divide(norm, S.Sqrt(S.Load(scratch.Parts))), zero);
        return HalfLanes<S, F, I>.Write(HalfLanes<S, F, I>.Nearest(gain), to.Scales + to.ScaleStride + token, tokens);
    }

    /// <summary>Codes of the levels nearest to vectors times their factors; where wanted, the sums of the levels' squares, not yet over lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToLevels(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens, bool sumsLevels)
    {
        int bits = to.Format.BitsPerElement();
        float* tables = CodeTables.Of(bits);
        byte* codes = scratch.Codes;
        float* fold = scratch.Fold;
        int padding = PackCodes.BytesFor(to.Width) - to.Width;
        for (int t = 0; t < tokens; t++)
        {
            float* vector = vectors + (t * stride);
            if (S.PicksFrom32)
            {
                Search(vector, stride, scratch.Factors[t], tables, codes, sumsLevels ? fold : null);
            }
            else
            {
                Count(vector, stride, scratch.Factors[t], tables, bits, codes);
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
                S.Store(scratch.Parts + (t * S.Lanes), VectorFold<S, F, I>.SquareSum(fold, stride, fold + stride, squares: true));
            }

            PackCodes.Pack(to.Format, codes, to.Width, Target(scratch, to, token, t));
        }
    }

    /// <summary>V4: for each group its minimum and the step that reaches its maximum, then codes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToGroups(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens)
    {
        int group = PageFormat.V4.ScaleGroup(to.Width);
        bool holds = true;
        var packed = (byte*)scratch.Packed;
        int codeStride = stride * sizeof(int);
        for (int plane = 0, start = 0; start < to.Width; plane += 2, start += group)
        {
            holds &= Extremes(scratch, vectors + start, stride, group, tokens);
            I least = HalfLanes<S, F, I>.Down(S.Load(scratch.Parts));
            F minimum = HalfLanes<S, F, I>.Widen(least);
            I step = HalfLanes<S, F, I>.Up(S.Divide(S.Subtract(S.Load(scratch.Fold), minimum), S.All(15f)));
            S.Store(scratch.Offsets, minimum);
            S.Store(scratch.Factors, S.Divide(S.All(1f), HalfLanes<S, F, I>.Widen(step)));
            ushort* scales = to.Scales + (plane * to.ScaleStride) + token;
            holds &= HalfLanes<S, F, I>.Write(step, scales, tokens) & HalfLanes<S, F, I>.Write(least, scales + to.ScaleStride, tokens);
            RoundGroup(vectors + start, stride, group, scratch.Offsets, scratch.Factors, packed + start, codeStride, tokens);
        }

        int padding = PackCodes.BytesFor(to.Width) - to.Width;
        for (int t = 0; t < tokens; t++)
        {
            byte* codes = packed + (t * codeStride);
            new Span<byte>(codes + to.Width, padding).Clear();
            PackCodes.Pack(PageFormat.V4, codes, to.Width, to.Words + ((long)(token + t) * to.VectorWords));
        }

        return holds;
    }

    /// <summary>FP8, q8_0 and q4_0: formats of exchange.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ToExchange(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens)
    {
        // Words that wait to be transposed come later: their room is free.
        var codes = (byte*)scratch.Words;
        int codeStride = stride * sizeof(int);
        bool holds = to.Format == PageFormat.FP8 || VectorExchange<S, F, I>.ToBlocks(scratch, vectors, stride, to, token, tokens, codes, codeStride);
        for (int t = 0; t < tokens; t++, vectors += stride, codes += codeStride)
        {
            if (to.Format == PageFormat.FP8)
            {
                VectorExchange<S, F, I>.ToFp8(vectors, to.Width, codes);
            }

            PackCodes.Pack(to.Format, codes, to.Width, Target(scratch, to, token, t));
        }

        return holds;
    }

    /// <summary>Full precision; no element is beyond the largest number of the format.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToFull(in EncodeScratch scratch, float* vectors, int stride, in PagePart to, int token, int tokens)
    {
        for (int t = 0; t < tokens; t++, vectors += stride)
        {
            if (to.IsKeys)
            {
                PackVector<S, F, I>.Pack(to.Format, vectors, stride, Target(scratch, to, token, t));
                continue;
            }

            PackVector<S, F, I>.Pack(to.Format, vectors, stride, scratch.Packed);
            new Span<int>(scratch.Packed, to.VectorWords).CopyTo(new Span<int>(Target(scratch, to, token, t), to.VectorWords));
        }
    }

    // Codes of I8, lanes by lanes: no more registers than the processor has, and no call.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Round(float* vectors, int stride, int width, float* factors, byte* codes, int codeStride, int tokens)
    {
        F bias = S.All(RoundingBias);
        for (int t = 0; t < tokens; t++, vectors += stride, codes += codeStride)
        {
            F inverse = S.All(factors[t]);
            int i = 0;
            for (; i + (4 * S.Lanes) <= width; i += 4 * S.Lanes)
            {
                float* x = vectors + i;
                byte* c = codes + i;
                S.StoreBytes(c, S.AsInt(S.Add(S.Multiply(S.Load(x), inverse), bias)));
                S.StoreBytes(c + S.Lanes, S.AsInt(S.Add(S.Multiply(S.Load(x + S.Lanes), inverse), bias)));
                S.StoreBytes(c + (2 * S.Lanes), S.AsInt(S.Add(S.Multiply(S.Load(x + (2 * S.Lanes)), inverse), bias)));
                S.StoreBytes(c + (3 * S.Lanes), S.AsInt(S.Add(S.Multiply(S.Load(x + (3 * S.Lanes)), inverse), bias)));
            }

            for (; i < width; i += S.Lanes)
            {
                S.StoreBytes(codes + i, S.AsInt(S.Add(S.Multiply(S.Load(vectors + i), inverse), bias)));
            }
        }
    }

    // Codes of V4. Neither end of the definition's clamp binds: the minimum is rounded down, the step up.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundGroup(float* vectors, int stride, int group, float* minima, float* factors, byte* codes, int codeStride, int tokens)
    {
        F bias = S.All(RoundingBias);
        for (int t = 0; t < tokens; t++, vectors += stride, codes += codeStride)
        {
            F minimum = S.All(minima[t]), inverse = S.All(factors[t]);
            for (int i = 0; i < group; i += S.Lanes)
            {
                F code = S.Multiply(S.Subtract(S.Load(vectors + i), minimum), inverse);
                S.StoreBytes(codes + i, S.AsInt(S.Add(code, bias)));
            }
        }
    }

    private static int TargetStride(in PagePart to) => to.IsKeys ? TokenWords<S, F, I>.StrideOf(to.VectorWords) : to.VectorWords;

    // Values go where they belong; keys wait to be transposed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int* Target(in EncodeScratch scratch, in PagePart to, int token, int t) => to.IsKeys
        ? scratch.Packed + (t * TokenWords<S, F, I>.StrideOf(to.VectorWords))
        : to.Words + ((long)(token + t) * to.VectorWords);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SquareSums(in EncodeScratch scratch, float* vectors, int stride, int tokens)
    {
        float* parts = scratch.Parts;
        for (int t = 0; t < tokens; t++)
        {
            S.Store(parts + (t * S.Lanes), VectorFold<S, F, I>.SquareSum(vectors + (t * stride), stride, scratch.Fold, squares: false));
        }

        VectorFold<S, F, I>.Lanes<AddFold>(parts, scratch.Turned);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Search(float* vector, int stride, float factor, float* tables, byte* codes, float* squaresOf)
    {
        F low = S.Load(tables), high = S.Load(tables + 16);
        F both = S.Load(tables + CodeTables.Both), bothHigh = S.Load(tables + CodeTables.Both + 16);
        F squares = S.Load(tables + CodeTables.Squares);
        F all = S.All(factor), end = S.All(CodeTables.Clamp), start = S.All(-CodeTables.Clamp);
        F perUnit = S.All(CodeTables.BucketsPerLevel), bias = S.All(CodeTables.BucketBias);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F z = S.Multiply(S.Load(vector + i), all);
            I bucket = S.AsInt(S.MultiplyAdd(S.Max(start, S.Min(end, z)), perUnit, bias));
            F pair = S.Pick32(both, bothHigh, bucket);
            F above = S.AsFloat(S.ShiftRight(S.AsInt(pair), CodeTables.BitsToAbove));
            I code = S.AsInt(S.IfLess(S.Pick32(low, high, bucket), z, above, pair));
            S.StoreBytes(codes + i, code);
            if (squaresOf != null)
            {
                S.Store(squaresOf + i, S.Pick32(squares, squares, code));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Count(float* vector, int stride, float factor, float* tables, int bits, byte* codes)
    {
        int half = 1 << (bits - 1);
        I magnitude = S.AllInt(half - 1), middle = S.AllInt(-half);
        F all = S.All(factor);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F z = S.Multiply(S.Load(vector + i), all);
            I code = S.AllInt(0);
            for (int k = 0; k < (2 * half) - 1; k++)
            {
                code = S.CountAbove(code, S.All(tables[CodeTables.All + k]), z);
            }

            // Below the middle, magnitudes count down.
            I negative = S.ShiftRight(S.AddInt(code, middle), 31);
            S.StoreBytes(codes + i, S.AndXor(negative, magnitude, code));
        }
    }

    /// <summary>The least of each vector's group in the parts, the largest in the fold. Returns true if all elements are finite: NaN compares with nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Extremes(in EncodeScratch scratch, float* vectors, int stride, int group, int tokens)
    {
        float* least = scratch.Parts, most = scratch.Fold;
        F rest = S.All(group % S.Lanes);
        I largest = S.AllInt(0), magnitude = S.AllInt(int.MaxValue);
        for (int t = 0; t < tokens; t++, vectors += stride)
        {
            F lowest = S.All(float.PositiveInfinity), highest = S.All(float.NegativeInfinity);
            int i = 0;
            for (; i + S.Lanes <= group; i += S.Lanes)
            {
                F x = S.Load(vectors + i);
                (lowest, highest) = (S.Min(lowest, x), S.Max(highest, x));
                largest = S.MaxInt(largest, S.And(S.AsInt(x), magnitude));
            }

            if (i < group)
            {
                F x = S.Load(vectors + i);
                largest = S.MaxInt(largest, S.And(S.AsInt(x), magnitude));
                lowest = S.Min(lowest, S.IfLess(S.Index(), rest, x, lowest));
                highest = S.Max(highest, S.IfLess(S.Index(), rest, x, highest));
            }

            S.Store(least + (t * S.Lanes), lowest);
            S.Store(most + (t * S.Lanes), highest);
        }

        VectorFold<S, F, I>.Lanes<LowestFold>(least, scratch.Turned);
        VectorFold<S, F, I>.Lanes<HighestFold>(most, scratch.Turned);
        float* lanes = scratch.Turned;
        S.Store(lanes, S.AsFloat(largest));
        bool isFinite = true;
        for (int lane = 0; lane < S.Lanes; lane++)
        {
            isFinite &= float.IsFinite(lanes[lane]);
        }

        return isFinite;
    }
}
