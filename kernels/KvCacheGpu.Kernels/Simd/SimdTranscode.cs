using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// How vectors come from the basis of one format to that of another: back to the plain basis by one pair of tables, and forth by another, each left out where it is not needed.
/// Nothing is done where both formats lie in one basis.
/// </summary>
internal readonly struct BasisChange
{
    /// <param name="from">Format that the vectors lie in.</param>
    /// <param name="to">Format that they are wanted for.</param>
    /// <param name="plan">The rotation of their width.</param>
    /// <param name="scaled">Tables of the row under its key scales; the default value where it has none.</param>
    public BasisChange(PageFormat from, PageFormat to, VectorPlan plan, RotationTables scaled)
    {
        Plan = plan;
        bool isFromScaled = from.IsCentered() && scaled.AreThere, isToScaled = to.IsCentered() && scaled.AreThere;
        if (from.IsRotated() != to.IsRotated() || isFromScaled != isToScaled)
        {
            From = !from.IsRotated() ? default : isFromScaled ? scaled : plan.Tables;
            To = !to.IsRotated() ? default : isToScaled ? scaled : plan.Tables;
        }
    }

    public VectorPlan Plan { get; }

    /// <summary>Tables of the way back to the plain basis.</summary>
    public RotationTables From { get; }

    /// <summary>Tables of the way from the plain basis.</summary>
    public RotationTables To { get; }
}

/// <summary>Writes pages from pages: an item is one page, taken as many tokens at a time as there are lanes.</summary>
internal sealed unsafe class SimdTranscode<S, F, I> : SimdTranscodeWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly SimdTier _tier;

    public SimdTranscode(SimdTier tier) => _tier = tier;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
        RotationTables scaled = from.KeyFormat.IsCentered() || to.KeyFormat.IsCentered() ? ScaledTables(move.KeyRow, scratch) : default;
        var keys = new BasisChange(from.KeyFormat, to.KeyFormat, _tier.KeyPlan, scaled);
        var values = new BasisChange(from.ValueFormat, to.ValueFormat, _tier.ValuePlan, default);
        if (move.ScoreWord != 0)
        {
            // Rotations keep norms, key scales do not.
            var scores = (float*)_tier.Tables + move.ScoreWord;
            float* unscale = from.KeyFormat.IsCentered() && scaled.AreThere ? scaled.Normed : null;
            scores[TableMap.ScoreKeySquare] = MeanSquare(PagePart.Keys(from, source, g.KeyWidth), _tier.KeyPlan, move.Tokens, unscale, scratch);
            scores[TableMap.ScoreValueSquare] = MeanSquare(PagePart.Values(from, source, g.ValueWidth), _tier.ValuePlan, move.Tokens, null, scratch);
        }

        bool holds = Write(PagePart.Keys(from, source, g.KeyWidth), PagePart.Keys(to, target, g.KeyWidth), keys, move.Tokens, isOpen, scratch);
        if (holds)
        {
            holds = Write(PagePart.Values(from, source, g.ValueWidth), PagePart.Values(to, target, g.ValueWidth), values, move.Tokens, isOpen, scratch);
        }

        if (Kept != null)
        {
            Kept[item] = !holds;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Decode(in PagePart part, VectorPlan plan, in PageRead read, HostOutput target)
    {
        var scratch = new EncodeScratch(_tier.Shape, _tier.TranscodeScratch(0));
        var change = new BasisChange(part.Format, PageFormat.F32, plan, part.Format.IsCentered() ? ScaledTables(read.KeyRow, scratch) : default);
        for (int t = 0; t < read.Tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, read.Tokens - t);
            ToBasis(part, change, t, some, scratch.Vectors, scratch);
            for (int i = 0; i < some; i++)
            {
                long vector = read.TargetVector + ((long)(t + i) * read.TargetStride);
                target.Write<S, F, I>(vector, scratch.Vectors + (i * plan.Stride), plan.Width);
            }
        }
    }

    // The tables of a row under its key scales, made in the scratch; none where all its exponents are 0.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private RotationTables ScaledTables(int keyRow, in EncodeScratch scratch)
    {
        if (_tier.KeyScales is not { } scales || !scales.IsScaled(keyRow))
        {
            return default;
        }

        VectorPlan plan = _tier.KeyPlan;
        var tables = new RotationTables(scratch.Scales, plan.Period);
        float* row = scales.Of(keyRow);
        F one = S.All(1f), wide = S.All(SimdF16.Factor), norm = S.All(plan.Norm);
        for (int i = 0, element = 0; i < plan.Period; i += S.Lanes)
        {
            F ofQueries = S.Load(row + element);
            S.Store(tables.Signs + i, S.Divide(one, ofQueries));
            S.Store(tables.Scaled + i, S.Divide(wide, ofQueries));
            S.Store(tables.Normed + i, S.Multiply(ofQueries, norm));
            element += S.Lanes;
            element = element == plan.Stride ? 0 : element;
        }

        return tables;
    }

    // Brings vectors back to the plain basis where a table for that is given.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float MeanSquare(in PagePart part, VectorPlan plan, int tokens, float* back, in EncodeScratch scratch)
    {
        float sum = 0f;
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            int* words = TokenWords<S, F, I>.Read(part, t, some, scratch.Words, out int wordStride);
            VectorDecode<S, F, I>.Vectors(part, words, wordStride, t, some, scratch.Vectors, plan.Stride, scratch.Codes);
            if (back != null)
            {
                VectorRotation<S, F, I>.Transform<SimdF32, Back>((int*)scratch.Vectors, scratch.Vectors, some * plan.Stride, plan, back);
            }

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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Write(in PagePart from, in PagePart to, in BasisChange change, int tokens, bool isOpen, in EncodeScratch scratch)
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
            return to.Mean == null || keepsDigest || Digest(from, to, change, tokens, scratch);
        }

        return to.Format.IsCentered() ? Center(from, to, change, tokens, scratch) : Encode(from, to, change, tokens, scratch);
    }

    // Keys whose digest is wanted stay as floats until the mean is known; all others are encoded a few tokens at a time.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Encode(in PagePart from, in PagePart to, in BasisChange change, int tokens, in EncodeScratch scratch)
    {
        int stride = change.Plan.Stride;
        bool holds = true;
        ClearSums(scratch, stride);
        for (int t = 0; t < tokens && holds; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + (to.Mean == null ? 0 : (long)t * stride);
            ToBasis(from, change, t, some, vectors, scratch);
            Saturate(to.Format, from.Format.IsRotated(), vectors, some * stride);
            if (to.Mean != null)
            {
                PageDigest<S, F, I>.Add(vectors, some, stride, scratch.Sums);
            }

            holds = Group(to, vectors, stride, t, some, scratch);
            WriteKeys(to, t, some, scratch);
        }

        return holds && (to.Mean == null || Finish(to, change.Plan, tokens, scratch, center: false));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Center(in PagePart from, in PagePart to, in BasisChange change, int tokens, in EncodeScratch scratch)
    {
        int stride = change.Plan.Stride;
        bool holds = true;
        ClearSums(scratch, stride);
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + ((long)t * stride);
            ToBasis(from, change, t, some, vectors, scratch);
            holds &= VectorEncode<S, F, I>.Rms(scratch, vectors, stride, to, t, some, unit: 1f);
            VectorEncode<S, F, I>.Scale(scratch, vectors, stride, some);
            PageDigest<S, F, I>.Add(vectors, some, stride, scratch.Sums);
        }

        Finish(to, change.Plan, tokens, scratch, center: true);
        for (int t = 0; t < tokens && holds; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            holds = VectorEncode<S, F, I>.ToGained(scratch, scratch.Vectors + ((long)t * stride), stride, to, t, some);
            WriteKeys(to, t, some, scratch);
        }

        return holds;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Digest(in PagePart from, in PagePart to, in BasisChange change, int tokens, in EncodeScratch scratch)
    {
        VectorPlan plan = change.Plan;
        ClearSums(scratch, plan.Stride);
        for (int t = 0; t < tokens; t += S.Lanes)
        {
            int some = Math.Min(S.Lanes, tokens - t);
            float* vectors = scratch.Vectors + ((long)t * plan.Stride);
            ToBasis(from, change, t, some, vectors, scratch);
            PageDigest<S, F, I>.Add(vectors, some, plan.Stride, scratch.Sums);
        }

        return Finish(to, plan, tokens, scratch, center: false);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool Finish(in PagePart to, VectorPlan plan, int tokens, in EncodeScratch scratch, bool center)
    {
        PageDigest<S, F, I>.Mean(scratch.Sums, tokens, plan.Width, plan.Stride, scratch.Mean, to.Mean, scratch.Packed);
        PageDigest<S, F, I>.AddSquares(scratch.Vectors, tokens, plan.Stride, scratch.Mean, scratch.Squares, center);
        PageDigest<S, F, I>.Deviation(scratch.Squares, tokens, plan.Width, plan.Stride, to.Deviation, scratch.Packed);
        return true;
    }

    // Some tokens of a part as floats in the basis that is wanted. Vectors without gaps are rotated while they are read.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ToBasis(in PagePart from, in BasisChange change, int token, int tokens, float* vectors, in EncodeScratch scratch)
    {
        int* words = TokenWords<S, F, I>.Read(from, token, tokens, scratch.Words, out int wordStride);
        VectorPlan plan = change.Plan;
        int count = tokens * plan.Stride;
        if (change.To.AreThere && !change.From.AreThere && plan.Width == plan.Stride && wordStride == from.VectorWords)
        {
            switch (from.Format)
            {
                case PageFormat.F32:
                    VectorRotation<S, F, I>.Transform<SimdF32, Forth>(words, vectors, count, plan, change.To.Signs);
                    return;
                case PageFormat.F16:
                    VectorRotation<S, F, I>.Transform<SimdF16, Forth>(words, vectors, count, plan, change.To.Scaled);
                    return;
                case PageFormat.BF16:
                    VectorRotation<S, F, I>.Transform<SimdBF16, Forth>(words, vectors, count, plan, change.To.Signs);
                    return;
                default:
                    break;
            }
        }

        VectorDecode<S, F, I>.Vectors(from, words, wordStride, token, tokens, vectors, plan.Stride, scratch.Codes);
        if (change.From.AreThere)
        {
            VectorRotation<S, F, I>.Transform<SimdF32, Back>((int*)vectors, vectors, count, plan, change.From.Normed);
        }

        if (change.To.AreThere)
        {
            VectorRotation<S, F, I>.Transform<SimdF32, Forth>((int*)vectors, vectors, count, plan, change.To.Signs);
        }
    }

    // Decoding may leave a rounding error beyond a full-precision format's largest number.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WriteKeys(in PagePart to, int token, int tokens, in EncodeScratch scratch)
    {
        if (to.IsKeys)
        {
            TokenWords<S, F, I>.WriteKeys(scratch.Packed, to.VectorWords, to.Words, to.PageTokens, token, tokens);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ClearSums(in EncodeScratch scratch, int stride)
    {
        new Span<float>(scratch.Sums, stride).Clear();
        new Span<float>(scratch.Squares, stride).Clear();
    }
}
