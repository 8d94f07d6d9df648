using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>A tile of queries made ready, and their weights on one page: common to attention and to the look back at it.</summary>
internal sealed unsafe class AttendTile<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Bits of 65536: pages of formats that take more than this hold numbers up to 2^128.</summary>
    public const uint LargestNarrow = 0x47800000;

    private const double Log2E = 1.4426950408889634;

    // A page read by more queries than this is expanded once, not once for every four of them.
    private const int ChunkQueries = 8;

    // 2^-11 times 576 elements of keys up to 2^128 stay below 2^128.
    private const int WideHeadroom = 11;

    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;
    private readonly KvGeometry _g;
    private readonly QueryVariants _variants;
    private readonly int _headroom;

    // The scale of logits over their cap; 0 where they have none.
    private readonly double _capScale;

    public AttendTile(SimdTier tier, SimdBatch batch)
    {
        (_tier, _batch, _g, _variants) = (tier, batch, tier.Shape.Geometry, batch.Variants);
        _capScale = _g.LogitSoftCap is { } cap ? (double)_g.AttentionScale / cap : 0;
        LogitFactor = (float)(Log2E * (_g.LogitSoftCap ?? _g.AttentionScale));
        _headroom = tier.Shape.KeyRefusedFrom > LargestNarrow ? WideHeadroom : 0;

        // Kernels compiled before the tables exist would check for them, and spill every accumulator for the sake of that call.
        RuntimeHelpers.RunClassConstructor(typeof(LevelTables).TypeHandle);
    }

    /// <summary>Brings a raw logit to units of log2: a sum of products, or where logits are capped, the hyperbolic tangent.</summary>
    public float LogitFactor { get; }

    /// <summary>Reads the queries of a tile, and clears its results.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Prepare(AttendScratch scratch, in ItemOf work, int firstQuery, int count)
    {
        int blocks = (count + 3) / 4;
        Array.Clear(scratch.IsTouched);
        new Span<float>(scratch.OutputOf(0, 0), 4 * blocks * scratch.OutputStride).Clear();
        new Span<float>(scratch.OutputOf(1, 0), _tier.RotatesValues ? 4 * blocks * scratch.OutputStride : 0).Clear();
        float** rows = stackalloc float*[4];
        for (int block = 0; block < blocks; block++)
        {
            scratch.Softmaxes[block].Clear();
            float* plain = scratch.QueryBlock(QueryVariants.Plain, block);
            for (int r = 0; r < 4; r++)
            {
                // The last block repeats the last query until it is full; those results are not used.
                int query = firstQuery + Math.Min((4 * block) + r, count - 1);
                (int token, int member) = Math.DivRem(query, _g.GroupSize);
                scratch.TokenOf[(4 * block) + r] = token;
                rows[r] = _batch.Call.Queries.Floats(work.Sequence.FirstToken + token, (work.Head * _g.GroupSize) + member);
                if (rows[0] == null || !Sse.IsSupported)
                {
                    _batch.Call.Queries.Read(work.Sequence.FirstToken + token, (work.Head * _g.GroupSize) + member, _g.KeyWidth, plain + r, 4);
                }
            }

            if (rows[0] != null && Sse.IsSupported)
            {
                Interleave(rows, _g.KeyWidth, plain);
            }

            Normalize(scratch, block);
            Scale(plain, _variants.Factor(QueryVariants.Plain));
        }

        scratch.Prepared = 1 << QueryVariants.Plain;
        scratch.PreparedPairs = 0;
    }

    // Four vectors of floats, element by element side by side.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Interleave(float** rows, int width, float* to)
    {
        int i = 0;
        for (; i + 4 <= width; i += 4, to += 16)
        {
            Vector128<float> a = Vector128.Load(rows[0] + i), b = Vector128.Load(rows[1] + i), c = Vector128.Load(rows[2] + i), d = Vector128.Load(rows[3] + i);
            Vector128<float> low = Sse.UnpackLow(a, b), high = Sse.UnpackHigh(a, b), lowRest = Sse.UnpackLow(c, d), highRest = Sse.UnpackHigh(c, d);
            Sse.MoveLowToHigh(low, lowRest).Store(to);
            Sse.MoveHighToLow(lowRest, low).Store(to + 4);
            Sse.MoveLowToHigh(high, highRest).Store(to + 8);
            Sse.MoveHighToLow(highRest, high).Store(to + 12);
        }

        for (; i < width; i++, to += 4)
        {
            (to[0], to[1], to[2], to[3]) = (rows[0][i], rows[1][i], rows[2][i], rows[3][i]);
        }
    }

    // Another form of a tile's queries, when the first page comes that is read with it: a layer may have many classes, and a sequence pages of one.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void PrepareForm(AttendScratch scratch, in ItemOf work, int variant, int count)
    {
        float* signs = _tier.KeyPlan.Signs;
        if (_variants.IsScaled(variant))
        {
            signs = _tier.KeyScales!.Of(_tier.KeyRow(work.Sequence.KeyTable, _tier.Map.Row(_batch.Call.Layer, work.Head)));
        }

        // Factors are powers of two, and no number leaves binary32 by them: taken away, they leave what was there before.
        float unscale = 1f / _variants.Factor(QueryVariants.Plain);
        for (int block = 0; 4 * block < count; block++)
        {
            float* plain = scratch.QueryBlock(QueryVariants.Plain, block), other = scratch.QueryBlock(variant, block);
            if (_variants.IsRotated(variant))
            {
                QueryRotation.Apply(plain, unscale, _g.KeyWidth, signs, other);
            }
            else
            {
                new Span<float>(plain, 4 * _g.KeyWidth).CopyTo(new Span<float>(other, 4 * _g.KeyWidth));
                Scale(other, unscale);
            }

            Scale(other, _variants.Factor(variant));
        }

        scratch.Prepared |= 1 << variant;
    }

    /// <summary>
    /// Divides each query of 1 or more by a power of two, to below 1 or, where keys may be huge, further below, so that neither its rotation
    /// nor a sum of products leaves binary32. Smaller queries stay as they are: their products are no larger.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Normalize(AttendScratch scratch, int block)
    {
        float* q = scratch.QueryBlock(QueryVariants.Plain, block);
        Vector128<float> largest = LargestOf(q);
        Vector128<float> scales = default;
        Vector128<int> exponents = default;
        for (int r = 0; r < 4; r++)
        {
            // As MathF.ILogB; what is said of subnormal numbers makes no difference.
            int exponent = float.IsFinite(largest[r]) ? Math.Max(0, (BitConverter.SingleToInt32Bits(largest[r]) >> 23) - 127 + 1 + _headroom) : 0;
            scales = scales.WithElement(r, MathF.ScaleB(1f, -exponent));
            exponents = exponents.WithElement(r, exponent);
        }

        if (_capScale > 0)
        {
            scratch.Softmaxes[block].SetCappedFactors(LogitFactor, _capScale, exponents);
        }
        else
        {
            scratch.Softmaxes[block].SetFactors(LogitFactor, exponents);
        }

        if (scales != Vector128<float>.One)
        {
            Multiply(q, scales);
        }
    }

    // The largest magnitudes of four queries. As integers magnitudes are ordered alike, NaN on top, and compare in one instruction.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private Vector128<float> LargestOf(float* q)
    {
        int i = 0, end = 4 * _g.KeyWidth;
        Vector128<int> most = default;
        if (Vector512.IsHardwareAccelerated)
        {
            // Behind the width queries are zero.
            Vector512<int> wide = default;
            for (; i < end; i += Vector512<float>.Count)
            {
                wide = Vector512.Max(wide, Vector512.Abs(Vector512.Load(q + i)).AsInt32());
            }

            Vector256<int> half = Vector256.Max(wide.GetLower(), wide.GetUpper());
            most = Vector128.Max(half.GetLower(), half.GetUpper());
        }

        for (; i < end; i += Vector128<float>.Count)
        {
            most = Vector128.Max(most, Vector128.Abs(Vector128.Load(q + i)).AsInt32());
        }

        return most.AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(float* q, Vector128<float> scales)
    {
        int i = 0, end = 4 * _g.KeyWidth;
        if (Vector512.IsHardwareAccelerated)
        {
            var four = Vector512.Create(Vector256.Create(scales, scales), Vector256.Create(scales, scales));
            for (; i + Vector512<float>.Count <= end; i += Vector512<float>.Count)
            {
                (Vector512.Load(q + i) * four).Store(q + i);
            }
        }

        for (; i < end; i += Vector128<float>.Count)
        {
            (Vector128.Load(q + i) * scales).Store(q + i);
        }
    }

    // Folds in the key format's factor.
    private void Scale(float* q, float factor)
    {
        if (factor != 1f)
        {
            Multiply(q, Vector128.Create(factor));
        }
    }

    /// <summary>One page as attention reads it, for the first <paramref name="count"/> queries of the tile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public PageView<S, F, I> View(
        AttendScratch scratch, in ItemOf work, TableEntry entry, TableEntry next, int count, bool keysOnly)
    {
        int* page = _tier.Page(entry.Slot);
        int* ahead = _tier.Page(next.Slot);
        int most = Math.Clamp(FirstPosition(work, entry.PageIndex) + scratch.TokenOf[count - 1], 0, _g.PageTokens);
        bool isChunk = (long)work.Sequence.Tokens * _g.GroupSize > ChunkQueries;
        int pageClass = TableMap.ClassOf(entry.Tag);
        int variant = _variants.Of(pageClass);
        if ((scratch.Prepared & (1 << variant)) == 0)
        {
            PrepareForm(scratch, work, variant, count);
        }

        PageFormat keys = _tier.Shape.Classes[pageClass].KeyFormat;
        bool isFast = S.HasPairs && _tier.Shape.Precision == KvAttentionPrecision.Fast;
        if (isFast && SimdFormats.HasPairKeys(keys) && (scratch.PreparedPairs & (1 << pageClass)) == 0)
        {
            PreparePairs(scratch, keys, variant, pageClass, count);
        }

        return new PageView<S, F, I>(_tier.Shape.Classes[pageClass], page, ahead, _g, scratch, most, isChunk, keysOnly, isFast)
        {
            Variant = variant,
            PageClass = pageClass,
            KeepsNonFinite = _tier.Shape.KeepsNonFinite,
        };
    }

    // A tile's queries in whole numbers, when the first page of a class comes that reads them so.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void PreparePairs(AttendScratch scratch, PageFormat keys, int variant, int pageClass, int count)
    {
        for (int block = 0; 4 * block < count; block++)
        {
            PairQueries pairs = scratch.PairsOf(pageClass, block);
            float* q = scratch.QueryBlock(variant, block);
            if (keys == PageFormat.I8)
            {
                pairs.Set<PairKeysI8>(q, _g.KeyWidth);
            }
            else
            {
                pairs.Set<PairKeysT4>(q, _g.KeyWidth);
            }
        }

        scratch.PreparedPairs |= 1 << pageClass;
    }

    // Tokens of the page that the first token of the launch sees; below 1 where the page comes after it.
    private int FirstPosition(in ItemOf work, int pageIndex) =>
        work.Sequence.Length - work.Sequence.Tokens - (pageIndex * _g.PageTokens) + 1;

    /// <summary>Leaves the weights of a block of four queries on a page, or of two blocks; returns how many of its tokens any of them sees.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public int Weigh(AttendScratch scratch, in PageView<S, F, I> view, in ItemOf work, int pageIndex, int block, int blocks)
    {
        int firstPosition = FirstPosition(work, pageIndex);
        int window = _batch.Call.Window;
        int* tokenOf = scratch.TokenOf + (4 * block);
        SoftmaxState* state = scratch.Softmaxes + block;
        int seen = 0;
        for (int b = 0; b < blocks; b++, tokenOf += 4)
        {
            int most = Math.Clamp(firstPosition + tokenOf[3], 0, _g.PageTokens);
            seen = (long)firstPosition + tokenOf[0] - window < _g.PageTokens ? Math.Max(seen, most) : seen;
            for (int r = 0; r < 4; r++)
            {
                int end = firstPosition + tokenOf[r];
                state[b].First[r] = end > window ? end - window : 0;
                state[b].Count[r] = Math.Clamp(end, 0, _g.PageTokens);
            }
        }

        if (seen > 0)
        {
            view.Logits(block, blocks, seen, state);
        }

        for (int b = 0; b < blocks; b++)
        {
            view.Weigh(b, seen, state + b);
        }

        return seen;
    }
}
