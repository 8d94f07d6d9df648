using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

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
                _batch.Call.Queries.Read(work.Sequence.FirstToken + token, (work.Head * _g.GroupSize) + member, _g.KeyWidth, plain + r, 4);
            }

            Normalize(scratch, block);
            Scale(plain, _variants.Factor(QueryVariants.Plain));
        }

        scratch.Prepared = 1 << QueryVariants.Plain;
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
        Vector128<int> magnitudes = default;
        for (int i = 0; i < 4 * _g.KeyWidth; i += 4)
        {
            // As integers magnitudes are ordered alike, NaN on top, and compare in one instruction.
            magnitudes = Vector128.Max(magnitudes, Vector128.Abs(Vector128.Load(q + i)).AsInt32());
        }

        Vector128<float> largest = magnitudes.AsSingle();
        Vector128<float> scales = default;
        Vector128<int> exponents = default;
        for (int r = 0; r < 4; r++)
        {
            int exponent = largest[r] > 0 && float.IsFinite(largest[r]) ? Math.Max(0, MathF.ILogB(largest[r]) + 1 + _headroom) : 0;
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

        for (int i = 0; i < 4 * _g.KeyWidth; i += 4)
        {
            (Vector128.Load(q + i) * scales).Store(q + i);
        }
    }

    // Folds in the key format's factor.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Scale(float* q, float factor)
    {
        for (int i = 0; i < 4 * _g.KeyWidth && factor != 1f; i += 4)
        {
            (Vector128.Load(q + i) * factor).Store(q + i);
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

        return new PageView<S, F, I>(_tier.Shape.Classes[pageClass], page, ahead, _g, scratch, most, isChunk, keysOnly)
        {
            Variant = variant,
            KeepsNonFinite = _tier.Shape.KeepsNonFinite,
        };
    }

    // Tokens of the page that the first token of the launch sees; below 1 where the page comes after it.
    private int FirstPosition(in ItemOf work, int pageIndex) =>
        work.Sequence.Length - work.Sequence.Tokens - (pageIndex * _g.PageTokens) + 1;

    /// <summary>Leaves the weights of four queries on a page; returns how many of its tokens any of them sees.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public int Weigh(AttendScratch scratch, in PageView<S, F, I> view, in ItemOf work, int pageIndex, int block)
    {
        int firstPosition = FirstPosition(work, pageIndex);
        int window = _batch.Call.Window;
        int* tokenOf = scratch.TokenOf + (4 * block);
        int seen = Math.Clamp(firstPosition + tokenOf[3], 0, _g.PageTokens);
        seen = (long)firstPosition + tokenOf[0] - window < _g.PageTokens ? seen : 0;
        SoftmaxState* state = scratch.Softmaxes + block;
        for (int r = 0; r < 4; r++)
        {
            int end = firstPosition + tokenOf[r];
            state->First[r] = end > window ? end - window : 0;
            state->Count[r] = Math.Clamp(end, 0, _g.PageTokens);
        }

        if (seen > 0)
        {
            view.Logits(scratch.QueryBlock(view.Variant, block), seen, state);
        }

        view.Weigh(seen, state);
        return seen;
    }
}
