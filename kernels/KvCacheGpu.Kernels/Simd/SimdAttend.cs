using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a ragged batch over pages where they lie. An item is (sequence, KV head, tile of queries, segment of pages); it
/// walks its pages once with an online softmax (Milakov and Gimelshein 2018; tiled as FlashAttention-2, Dao 2023) and leaves a
/// finished output or, where a row is split into segments, a partial one that the last segment merges (Flash-Decoding, Dao et al. 2023).
/// </summary>
internal sealed unsafe partial class SimdAttend<S, F, I> : SimdAttendWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const float Log2E = 1.442695041f;

    // A page read by more queries than this is expanded once, not once for every four of them.
    private const int ChunkQueries = 8;

    // The largest number of binary32 less 4e-6 of it.
    private const float AlmostLargest = 3.40281e38f;

    // Bits of 65536: pages of formats that take more than this hold numbers up to 2^128.
    private const uint LargestNarrow = 0x47800000;

    // 2^-11 times 576 elements of keys up to 2^128 stay below 2^128.
    private const int WideHeadroom = 11;

    // Sums of values up to 2^128 over all the tokens there may be stay below 2^128.
    private const float Shrunk = 1f / (1 << 30) / 8;

    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;
    private readonly KvGeometry _g;
    private readonly QueryVariants _variants;
    private readonly float _logitFactor;
    private readonly int _headroom;
    private readonly bool _mayOverflow;

    public SimdAttend(SimdTier tier, SimdBatch batch)
    {
        (_tier, _batch, _g) = (tier, batch, tier.Shape.Geometry);
        _logitFactor = Log2E / MathF.Sqrt(_g.KeyWidth);
        _headroom = tier.Shape.KeyRefusedFrom > LargestNarrow ? WideHeadroom : 0;
        _mayOverflow = tier.Shape.ValueRefusedFrom > LargestNarrow;
        _variants = batch.Variants;

        // Kernels compiled before the tables exist would check for them, and spill every accumulator for the sake of that call.
        RuntimeHelpers.RunClassConstructor(typeof(LevelTables).TypeHandle);
    }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        AttendScratch scratch = _batch.Scratch(worker);
        if (Observed > 0)
        {
            Observe(item, scratch);
            return;
        }

        ItemOf work = _batch.Find(item);
        int row = _tier.Map.Row(work.Sequence.Sequence, Layer, work.Head);
        int entries = _tier.Tables[row];
        int segments = work.Sequence.Tokens == 1 ? SimdBatch.SegmentsOf(entries, _g.PageTokens) : 1;
        if (work.Segment >= segments)
        {
            return;
        }

        int firstQuery = work.Tile * scratch.TileQueries;
        int count = Math.Min(scratch.TileQueries, (work.Sequence.Tokens * _g.GroupSize) - firstQuery);
        int from = (int)((long)entries * work.Segment / segments);
        int to = (int)((long)entries * (work.Segment + 1) / segments);
        scratch.Shrink = 1f;
        Walk(scratch, work, row, from, to, firstQuery, count);
        if (_mayOverflow && !AreFinite(scratch, count))
        {
            // Huge values: once more, with what their sum cannot leave binary32 by. Small ones do not come through that.
            scratch.Shrink = Shrunk;
            Walk(scratch, work, row, from, to, firstQuery, count);
        }

        for (int r = 0; r < count; r++)
        {
            Average(scratch.OutputOf(0, r), scratch.Softmaxes[r / 4].Sum[r % 4], scratch.Shrink);
        }

        if (segments == 1)
        {
            for (int r = 0; r < count; r++)
            {
                Finish(work, row, firstQuery + r, scratch.OutputOf(0, r), StateOf(scratch, r));
            }
        }
        else
        {
            SplitResults split = _batch.SplitOf(work.SequenceIndex, work.Head);
            for (int r = 0; r < count; r++)
            {
                split.Put(work.Segment, firstQuery + r, StateOf(scratch, r), scratch.OutputOf(0, r), _g.ValueWidth);
            }

            if (split.Arrive() == segments * _batch.TilesOf(work.Sequence))
            {
                for (int r = 0; r < _g.GroupSize; r++)
                {
                    QueryState state = split.Merge(segments, r, _g.ValueWidth, _logitFactor, out float* merged);
                    Finish(work, row, r, merged, state);
                }
            }
        }
    }

    // Sums of weighted values over a segment's pages, in the plain basis.
    private void Walk(AttendScratch scratch, in ItemOf work, int row, int from, int to, int firstQuery, int count)
    {
        Prepare(scratch, work, firstQuery, count);
        long seenFrom = (long)work.Sequence.Length - work.Sequence.Tokens + (firstQuery / _g.GroupSize) - Window + 1;
        for (int entry = from; entry < to; entry++)
        {
            int page = TableMap.PageIndexOf(_tier.Tables[_tier.Map.TagWord(row, entry)]);
            if ((page + 1L) * _g.PageTokens <= seenFrom)
            {
                Skip(work, row, page, firstQuery, count);
                continue;
            }

            Visit(scratch, work, row, entry, entry + 1 < to ? entry + 1 : entry, firstQuery, count);
        }

        Gather(scratch, count);
    }

    private void Prepare(AttendScratch scratch, in ItemOf work, int firstQuery, int count)
    {
        int blocks = (count + 3) / 4;
        Array.Clear(scratch.IsTouched);
        new Span<float>(scratch.OutputOf(0, 0), 4 * blocks * scratch.OutputStride).Clear();
        new Span<float>(scratch.OutputOf(1, 0), _tier.RotatesValues ? 4 * blocks * scratch.OutputStride : 0).Clear();
        for (int block = 0; block < blocks; block++)
        {
            scratch.Softmaxes[block].Clear();
            float* plain = scratch.QueryBlock(_variants.Of(KernelShape.Open), block);
            for (int r = 0; r < 4; r++)
            {
                // The last block repeats the last query until it is full; those results are not used.
                int query = firstQuery + Math.Min((4 * block) + r, count - 1);
                (int token, int member) = Math.DivRem(query, _g.GroupSize);
                scratch.TokenOf[(4 * block) + r] = token;
                Queries.Read(work.Sequence.FirstToken + token, (work.Head * _g.GroupSize) + member, _g.KeyWidth, plain + r, 4);
            }

            Normalize(scratch, block);
            for (int variant = 1; variant < _variants.Count; variant++)
            {
                if (_variants.IsUsed(Layer, variant))
                {
                    float* other = scratch.QueryBlock(variant, block);
                    new Span<float>(plain, 4 * _g.KeyWidth).CopyTo(new Span<float>(other, 4 * _g.KeyWidth));
                    if (_variants.IsRotated(variant))
                    {
                        RotateQueries.Apply(other, _g.KeyWidth, _tier.KeySigns);
                    }

                    Scale(other, _variants.Factor(variant));
                }
            }

            Scale(plain, _variants.Factor(_variants.Of(KernelShape.Open)));
        }
    }

    /// <summary>
    /// Brings each query of 1 or more below 1 by a power of two, or below what keys of any size leave room for, so that neither its rotation
    /// nor a sum of products leaves binary32. Smaller queries stay as they are: their products are no larger.
    /// </summary>
    private void Normalize(AttendScratch scratch, int block)
    {
        float* q = scratch.QueryBlock(_variants.Of(KernelShape.Open), block);
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

        scratch.Softmaxes[block].SetFactors(_logitFactor, exponents);
        for (int i = 0; i < 4 * _g.KeyWidth; i += 4)
        {
            (Vector128.Load(q + i) * scales).Store(q + i);
        }
    }

    // Folds in the key format's factor.
    private void Scale(float* q, float factor)
    {
        for (int i = 0; i < 4 * _g.KeyWidth && factor != 1f; i += 4)
        {
            (Vector128.Load(q + i) * factor).Store(q + i);
        }
    }

    // No query of the tile sees the page: its bytes are not read.
    private void Skip(in ItemOf work, int row, int page, int firstQuery, int count)
    {
        int last = (work.Sequence.Tokens - 1) * _g.GroupSize;
        for (int query = Math.Max(firstQuery, last); query < firstQuery + count && !work.Sequence.KeepsStatistics; query++)
        {
            float* stats = (float*)_tier.Tables + _tier.Map.StatsWord(row, page) + (2 * (query - last));
            (stats[0], stats[1]) = (float.NegativeInfinity, 0f);
        }
    }

    private void Visit(AttendScratch scratch, in ItemOf work, int row, int entry, int nextEntry, int firstQuery, int count)
    {
        PageView<S, F, I> view = View(scratch, work, row, entry, nextEntry, count, keysOnly: false, out int pageIndex);
        int* tokenOf = scratch.TokenOf;
        for (int block = 0; 4 * block < count; block++)
        {
            SoftmaxState* state = scratch.Softmaxes + block;
            int seen = Weigh(scratch, view, work, pageIndex, block);
            for (int r = 0; r < 4; r++)
            {
                int local = (4 * block) + r;
                if (scratch.IsTouched[1 - view.Rotated] && state->Keep[r] != 1f)
                {
                    Multiply(scratch.OutputOf(1 - view.Rotated, local), state->Keep[r], _g.ValueWidth);
                }

                if (local < count && tokenOf[local] == work.Sequence.MeasuredToken)
                {
                    int member = firstQuery + local - (tokenOf[local] * _g.GroupSize);
                    float* stats = (float*)_tier.Tables + _tier.Map.StatsWord(row, pageIndex) + (2 * member);
                    (stats[0], stats[1]) = (state->PageLogit[r], state->PageSum[r]);
                }
            }

            if (seen > 0)
            {
                scratch.IsTouched[view.Rotated] = true;
                view.Accumulate(scratch.OutputOf(view.Rotated, 4 * block), seen, state);
            }
        }
    }

    private PageView<S, F, I> View(
        AttendScratch scratch, in ItemOf work, int row, int entry, int nextEntry, int count, bool keysOnly, out int pageIndex)
    {
        int tag = _tier.Tables[_tier.Map.TagWord(row, entry)];
        pageIndex = TableMap.PageIndexOf(tag);
        int* page = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, entry)]);
        int* ahead = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, nextEntry)]);
        int most = Math.Clamp(FirstPosition(work, pageIndex) + scratch.TokenOf[count - 1], 0, _g.PageTokens);
        bool isChunk = (long)work.Sequence.Tokens * _g.GroupSize > ChunkQueries;
        int pageClass = TableMap.ClassOf(tag);
        return new PageView<S, F, I>(_tier.Shape.Classes[pageClass], page, ahead, _g, scratch, most, isChunk, keysOnly)
        {
            Variant = _variants.Of(pageClass),
            KeepsNonFinite = _tier.Shape.KeepsNonFinite,
        };
    }

    // Tokens of the page that the first token of the launch sees; below 1 where the page comes after it.
    private int FirstPosition(in ItemOf work, int pageIndex) =>
        work.Sequence.Length - work.Sequence.Tokens - (pageIndex * _g.PageTokens) + 1;

    /// <summary>Leaves the weights of four queries on a page; returns how many of its tokens any of them sees.</summary>
    private int Weigh(AttendScratch scratch, in PageView<S, F, I> view, in ItemOf work, int pageIndex, int block)
    {
        int firstPosition = FirstPosition(work, pageIndex);
        int* tokenOf = scratch.TokenOf + (4 * block);
        int seen = Math.Clamp(firstPosition + tokenOf[3], 0, _g.PageTokens);
        seen = (long)firstPosition + tokenOf[0] - Window < _g.PageTokens ? seen : 0;
        SoftmaxState* state = scratch.Softmaxes + block;
        for (int r = 0; r < 4; r++)
        {
            int end = firstPosition + tokenOf[r];
            state->First[r] = end > Window ? end - Window : 0;
            state->Count[r] = Math.Clamp(end, 0, _g.PageTokens);
        }

        if (seen > 0)
        {
            view.Logits(scratch.QueryBlock(view.Variant, block), seen, state);
        }

        view.Weigh(seen, state);
        return seen;
    }

    /// <summary>Brings the rotated half of each output back to the plain basis and adds it.</summary>
    private void Gather(AttendScratch scratch, int count)
    {
        if (!scratch.IsTouched[1])
        {
            return;
        }

        VectorPlan plan = _tier.ValuePlan;
        float* turned = scratch.Turned;
        for (int block = 0; 4 * block < count; block++)
        {
            for (int r = 0; r < 4; r++)
            {
                new Span<float>(scratch.OutputOf(1, (4 * block) + r), plan.Stride).CopyTo(new Span<float>(turned + (r * plan.Stride), plan.Stride));
            }

            VectorRotation<S, F, I>.Transform<SimdF32, Back>((int*)turned, turned, 4 * plan.Stride, plan, plan.Normed);
            for (int r = 0; r < 4; r++)
            {
                float* plain = scratch.OutputOf(0, (4 * block) + r);
                for (int i = 0; i < plan.Stride; i += S.Lanes)
                {
                    S.Store(plain + i, S.Add(S.Load(plain + i), S.Load(turned + (r * plan.Stride) + i)));
                }
            }
        }
    }

    private void Finish(in ItemOf work, int row, int query, float* output, in QueryState state)
    {
        (int token, int member) = Math.DivRem(query, _g.GroupSize);
        long index = ((long)(work.Sequence.FirstToken + token) * _g.QueryHeads) + (work.Head * _g.GroupSize) + member;
        new Span<float>(output, _g.ValueWidth).CopyTo(new Span<float>(Output + (index * _g.ValueWidth), _g.ValueWidth));
        float logSumExp = SoftmaxState.LogitOf(state.Maximum, _logitFactor, state.Exponent) + MathF.Log(state.Sum);
        if (LogSumExp != null)
        {
            LogSumExp[index] = logSumExp;
        }

        _batch.Keep(work.SequenceIndex, work.Sequence.Tokens - 1 - token, (work.Head * _g.GroupSize) + member, logSumExp);
        if (token == work.Sequence.MeasuredToken)
        {
            ((float*)_tier.Tables)[_tier.Map.LogSumExpWord(row, member)] = logSumExp;
        }
    }

    private static QueryState StateOf(AttendScratch scratch, int row) =>
        new(scratch.Softmaxes[row / 4].Maximum[row % 4], scratch.Softmaxes[row / 4].Sum[row % 4], scratch.Softmaxes[row / 4].Exponent[row % 4]);

    private bool AreFinite(AttendScratch scratch, int count)
    {
        for (int r = 0; r < count; r++)
        {
            if (!HalfLanes<S, F, I>.AreFinite(scratch.OutputOf(0, r), _g.ValueWidth))
            {
                return false;
            }
        }

        return true;
    }

    // From the weighted sum to the mean. Sums that were shrunk are of huge values: a rounding must not take them, nor what they are merged to,
    // beyond binary32.
    private void Average(float* output, float sum, float shrink)
    {
        float inverse = sum > 0f ? 1f / sum : 0f;
        for (int i = 0; i < _g.ValueWidth; i++)
        {
            float mean = output[i] * inverse;
            output[i] = shrink == 1f || !float.IsFinite(mean) ? mean : Math.Clamp(mean / shrink, -AlmostLargest, AlmostLargest);
        }
    }

    private static void Multiply(float* row, float factor, int width)
    {
        for (int i = 0; i < width; i++)
        {
            row[i] *= factor;
        }
    }
}
