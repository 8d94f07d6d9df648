using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>Writes pages from pages: an item is one page, taken as many tokens at a time as there are lanes.</summary>
internal sealed unsafe class SimdTranscode<S, F, I> : SimdTranscodeWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly SimdTier _tier;

    public SimdTranscode(SimdTier tier) => _tier = tier;

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        PageMove move = Moves[item];
        PageLayout from = _tier.Shape.Classes[move.SourceClass];
        PageLayout to = _tier.Shape.Classes[move.TargetClass];
        int* source = _tier.Page(move.SourceSlot);
        int* target = _tier.Page(move.TargetSlot);
        var scratch = new EncodeScratch(_tier.Shape, _tier.TranscodeScratch(worker));
        KvGeometry g = _tier.Shape.Geometry;
        bool isOpen = move.SourceClass == KernelShape.Open;
        if (move.ScoreWord != 0)
        {
            var scores = (float*)_tier.Tables + move.ScoreWord;
            scores[TableMap.ScoreKeySquare] = MeanSquare(PagePart.Keys(from, source, g.KeyWidth), _tier.KeyPlan, move.Tokens, scratch);
            scores[TableMap.ScoreValueSquare] = MeanSquare(PagePart.Values(from, source, g.ValueWidth), _tier.ValuePlan, move.Tokens, scratch);
        }

        bool holds = Write(PagePart.Keys(from, source, g.KeyWidth), PagePart.Keys(to, target, g.KeyWidth), _tier.KeyPlan, move.Tokens, isOpen, scratch);
        if (holds)
        {
            holds = Write(
                PagePart.Values(from, source, g.ValueWidth), PagePart.Values(to, target, g.ValueWidth), _tier.ValuePlan, move.Tokens, isOpen, scratch);
        }

        if (Kept != null)
        {
            Kept[item] = !holds;
        }
    }

    /// <inheritdoc/>
    public override void Decode(in PagePart part, VectorPlan plan, in PageRead read, HostOutput target)
    {
        var scratch = new EncodeScratch(_tier.Shape, _tier.TranscodeScratch(0));
        for (int t = 0; t < read.Tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, read.Tokens - t);
            ToBasis(part, plan, t, some, isRotated: false, scratch.Vectors, scratch);
            for (int i = 0; i < some; i++)
            {
                long vector = read.TargetVector + ((long)(t + i) * read.TargetStride);
                target.Write<S, F, I>(vector, scratch.Vectors + (i * plan.Stride), plan.Width);
            }
        }
    }

    // Rotations keep norms: each basis will do.
    private static float MeanSquare(in PagePart part, VectorPlan plan, int tokens, in EncodeScratch scratch)
    {
        float sum = 0f;
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            int* words = TokenWords<S, F, I>.Read(part, t, some, scratch.Words, out int wordStride);
            VectorDecode<S, F, I>.Vectors(part, words, wordStride, t, some, scratch.Vectors, plan.Stride, scratch.Codes);
            F squares = S.All(0f);
            for (int i = 0; i < some * plan.Stride; i += S.Lanes)
            {
                F x = S.Load(scratch.Vectors + i);
                squares = S.MultiplyAdd(x, x, squares);
            }

            F none = S.All(0f);
            sum += S.SumsOf(squares, none, none, none).ToScalar();
        }

        // Squares of huge numbers are beyond binary32 and count as its largest.
        return Math.Min(sum / tokens, float.MaxValue);
    }

    private static bool Write(in PagePart from, in PagePart to, VectorPlan plan, int tokens, bool isOpen, in EncodeScratch scratch)
    {
        // Append takes numbers up to 65536, as BF16 rounds them; F16 saturates those, and cannot hold anything larger.
        uint limit = to.Format == PageFormat.F16 ? 0x47800001u : 0x7F800000;
        if (from.Format.IsFullPrecision() && TokenWords<S, F, I>.Exceeds(from, tokens, limit))
        {
            return false;
        }

        bool keepsDigest = from.Format == to.Format && from.Mean != null && !isOpen;
        if (from.Format == to.Format)
        {
            Copy(from, to, tokens, keepsDigest);
            return to.Mean == null || keepsDigest || Digest(from, to, plan, tokens, scratch);
        }

        return to.Format.IsCentered() ? Center(from, to, plan, tokens, scratch) : Encode(from, to, plan, tokens, scratch);
    }

    // Keys whose digest is wanted stay as floats until the mean is known; all others are encoded a few tokens at a time.
    private static bool Encode(in PagePart from, in PagePart to, VectorPlan plan, int tokens, in EncodeScratch scratch)
    {
        int stride = plan.Stride;
        bool holds = true;
        ClearSums(scratch, stride);
        for (int t = 0; t < tokens && holds; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + (to.Mean == null ? 0 : (long)t * stride);
            ToBasis(from, plan, t, some, to.Format.IsRotated(), vectors, scratch);
            Saturate(to.Format, from.Format.IsRotated(), vectors, some * stride);
            if (to.Mean != null)
            {
                PageDigest<S, F, I>.Add(vectors, some, stride, scratch.Sums);
            }

            holds = Group(to, vectors, stride, t, some, scratch);
            WriteKeys(to, t, some, scratch);
        }

        return holds && (to.Mean == null || Finish(to, plan, tokens, scratch, center: false));
    }

    private static bool Group(in PagePart to, float* vectors, int stride, int token, int tokens, in EncodeScratch scratch)
    {
        switch (to.Format)
        {
            case PageFormat.I8:
                return VectorEncode<S, F, I>.ToI8(scratch, vectors, stride, to, token, tokens);
            case PageFormat.V4:
                return VectorEncode<S, F, I>.ToGroups(scratch, vectors, stride, to, token, tokens);
            case PageFormat.V3 or PageFormat.V2:
                bool holds = VectorEncode<S, F, I>.Rms(scratch, vectors, stride, to, token, tokens, Levels.Unit(to.Format.BitsPerElement()));
                VectorEncode<S, F, I>.ToLevels(scratch, vectors, stride, to, token, tokens, sumsLevels: false);
                return holds;
            case PageFormat.F32 or PageFormat.F16 or PageFormat.BF16:
                VectorEncode<S, F, I>.ToFull(scratch, vectors, stride, to, token, tokens);
                return true;
            default:
                return VectorEncode<S, F, I>.ToExchange(scratch, vectors, stride, to, token, tokens);
        }
    }

    // T formats: every key divided by its r gives the mean, without which no code is known.
    private static bool Center(in PagePart from, in PagePart to, VectorPlan plan, int tokens, in EncodeScratch scratch)
    {
        int stride = plan.Stride;
        bool holds = true;
        ClearSums(scratch, stride);
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + ((long)t * stride);
            ToBasis(from, plan, t, some, isRotated: true, vectors, scratch);
            holds &= VectorEncode<S, F, I>.Rms(scratch, vectors, stride, to, t, some, unit: 1f);
            VectorEncode<S, F, I>.Scale(scratch, vectors, stride, some);
            PageDigest<S, F, I>.Add(vectors, some, stride, scratch.Sums);
        }

        Finish(to, plan, tokens, scratch, center: true);
        for (int t = 0; t < tokens && holds; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            holds = VectorEncode<S, F, I>.ToGained(scratch, scratch.Vectors + ((long)t * stride), stride, to, t, some);
            WriteKeys(to, t, some, scratch);
        }

        return holds;
    }

    private static bool Digest(in PagePart from, in PagePart to, VectorPlan plan, int tokens, in EncodeScratch scratch)
    {
        ClearSums(scratch, plan.Stride);
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + ((long)t * plan.Stride);
            ToBasis(from, plan, t, some, to.Format.IsRotated(), vectors, scratch);
            PageDigest<S, F, I>.Add(vectors, some, plan.Stride, scratch.Sums);
        }

        return Finish(to, plan, tokens, scratch, center: false);
    }

    private static bool Finish(in PagePart to, VectorPlan plan, int tokens, in EncodeScratch scratch, bool center)
    {
        PageDigest<S, F, I>.Mean(scratch.Sums, tokens, plan.Width, plan.Stride, scratch.Mean, to.Mean, scratch.Packed);
        PageDigest<S, F, I>.AddSquares(scratch.Vectors, tokens, plan.Stride, scratch.Mean, scratch.Squares, center);
        PageDigest<S, F, I>.Deviation(scratch.Squares, tokens, plan.Width, plan.Stride, to.Deviation, scratch.Packed);
        return true;
    }

    // Some tokens of a part as floats in the basis that is wanted. Vectors without gaps are rotated while they are read.
    private static void ToBasis(in PagePart from, VectorPlan plan, int token, int tokens, bool isRotated, float* vectors, in EncodeScratch scratch)
    {
        int* words = TokenWords<S, F, I>.Read(from, token, tokens, scratch.Words, out int wordStride);
        int count = tokens * plan.Stride;
        bool turnsForth = isRotated && !from.Format.IsRotated();
        if (turnsForth && plan.Width == plan.Stride && wordStride == from.VectorWords)
        {
            switch (from.Format)
            {
                case PageFormat.F32:
                    VectorRotation<S, F, I>.Transform<SimdF32, Forth>(words, vectors, count, plan, plan.Signs);
                    return;
                case PageFormat.F16:
                    VectorRotation<S, F, I>.Transform<SimdF16, Forth>(words, vectors, count, plan, plan.Scaled);
                    return;
                case PageFormat.BF16:
                    VectorRotation<S, F, I>.Transform<SimdBF16, Forth>(words, vectors, count, plan, plan.Signs);
                    return;
                default:
                    break;
            }
        }

        VectorDecode<S, F, I>.Vectors(from, words, wordStride, token, tokens, vectors, plan.Stride, scratch.Codes);
        if (turnsForth)
        {
            VectorRotation<S, F, I>.Transform<SimdF32, Forth>((int*)vectors, vectors, count, plan, plan.Signs);
        }
        else if (!isRotated && from.Format.IsRotated())
        {
            VectorRotation<S, F, I>.Transform<SimdF32, Back>((int*)vectors, vectors, count, plan, plan.Normed);
        }
    }

    // Decoding may leave a rounding error beyond a full-precision format's largest number.
    private static void Saturate(PageFormat format, bool isDecoded, float* vectors, int count)
    {
        if (!format.IsFullPrecision())
        {
            return;
        }

        F largest = S.All(BitConverter.UInt32BitsToSingle(format switch
        {
            PageFormat.F16 => 0x477FE000u,
            PageFormat.BF16 => 0x7F7F0000u,
            _ => 0x7F7FFFFFu,
        }));
        F least = S.Subtract(S.All(0f), largest);
        for (int i = 0; i < count; i += S.Lanes)
        {
            S.Store(vectors + i, S.Max(least, S.Min(largest, S.Load(vectors + i))));
        }
    }

    private static void WriteKeys(in PagePart to, int token, int tokens, in EncodeScratch scratch)
    {
        if (to.IsKeys)
        {
            TokenWords<S, F, I>.WriteKeys(scratch.Packed, to.VectorWords, to.Words, to.PageTokens, token, tokens);
        }
    }

    private static void Copy(in PagePart from, in PagePart to, int tokens, bool withDigest)
    {
        if (from.Words == to.Words)
        {
            return;
        }

        int words = from.VectorWords * (from.IsKeys ? from.PageTokens : tokens);
        new Span<int>(from.Words, words).CopyTo(new Span<int>(to.Words, words));
        int halves = from.Planes * from.ScaleStride;
        new Span<ushort>(from.Scales, halves).CopyTo(new Span<ushort>(to.Scales, halves));
        if (withDigest && to.Mean != null)
        {
            new Span<ushort>(from.Mean, from.Width).CopyTo(new Span<ushort>(to.Mean, to.Width));
            new Span<ushort>(from.Deviation, from.Width).CopyTo(new Span<ushort>(to.Deviation, to.Width));
        }
    }

    private static void ClearSums(in EncodeScratch scratch, int stride)
    {
        new Span<float>(scratch.Sums, stride).Clear();
        new Span<float>(scratch.Squares, stride).Clear();
    }
}
