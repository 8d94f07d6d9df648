using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a ragged batch over pages where they lie. An item is (sequence, KV head, tile of queries, segment of pages); it
/// walks its pages once with an online softmax (Milakov and Gimelshein 2018; tiled as FlashAttention-2, Dao 2023) and leaves a
/// finished output or, where a row is split into segments, a partial one that the last segment merges (Flash-Decoding, Dao et al. 2023).
/// </summary>
internal sealed unsafe class SimdAttend<S, F, I> : SimdAttendWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // The largest number of binary32 less 4e-6 of it.
    private const float AlmostLargest = 3.40281e38f;

    // Sums of values up to 2^128 over all the tokens there may be stay below 2^128.
    private const float Shrunk = 1f / (1 << 30) / 8;

    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;
    private readonly KvGeometry _g;
    private readonly AttendTile<S, F, I> _tile;
    private readonly bool _mayOverflow;

    public SimdAttend(SimdTier tier, SimdBatch batch)
    {
        (_tier, _batch, _g) = (tier, batch, tier.Shape.Geometry);
        _tile = new AttendTile<S, F, I>(tier, batch);
        _mayOverflow = tier.Shape.ValueRefusedFrom > AttendTile<S, F, I>.LargestNarrow;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker)
    {
        AttendScratch scratch = _batch.Scratch(worker);
        ItemOf work = _batch.Find(item);
        TableRow row = _batch.RowOf(work.Sequence, _batch.Call.Layer, work.Head);
        int entries = row.Count;
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
            // Huge values: once more, with smaller weights, so that the sum stays within binary32. Small values would be lost by that.
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
                Finish(work, firstQuery + r, scratch.OutputOf(0, r), StateOf(scratch, r));
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
                    QueryState state = split.Merge(segments, r, _g.ValueWidth, _tile.LogitFactor, out float* merged);
                    Finish(work, r, merged, state);
                }

                _batch.EndSplit(work.SequenceIndex, work.Head);
            }
        }
    }

    // Sums of weighted values over a segment's pages, in the plain basis.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Walk(AttendScratch scratch, in ItemOf work, in TableRow row, int from, int to, int firstQuery, int count)
    {
        _tile.Prepare(scratch, work, firstQuery, count);
        long seenFrom = (long)work.Sequence.Length - work.Sequence.Tokens + (firstQuery / _g.GroupSize) - _batch.Call.Window + 1;
        TableEntry next = from < to ? row[from] : default;
        for (int i = from; i < to; i++)
        {
            TableEntry entry = next;
            next = i + 1 < to ? row[i + 1] : entry;
            if ((entry.PageIndex + 1L) * _g.PageTokens <= seenFrom)
            {
                Skip(work, row, entry.PageIndex, firstQuery, count);
                continue;
            }

            Visit(scratch, work, row, entry, next, firstQuery, count);
        }

        Gather(scratch, count);
    }

    // No query of the tile sees the page: its bytes are not read.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Skip(in ItemOf work, in TableRow row, int page, int firstQuery, int count)
    {
        int last = (work.Sequence.Tokens - 1) * _g.GroupSize;
        for (int query = Math.Max(firstQuery, last); query < firstQuery + count && !work.Sequence.KeepsStatistics; query++)
        {
            float* stats = row.Stats(page) + (2 * (query - last));
            (stats[0], stats[1]) = (float.NegativeInfinity, 0f);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Visit(AttendScratch scratch, in ItemOf work, in TableRow row, TableEntry entry, TableEntry next, int firstQuery, int count)
    {
        PageView<S, F, I> view = _tile.View(scratch, work, entry, next, count, keysOnly: false);
        int* tokenOf = scratch.TokenOf;
        int blocks;
        for (int block = 0; 4 * block < count; block += blocks)
        {
            blocks = view.TakesEight && 4 * (block + 1) < count ? 2 : 1;
            int seen = _tile.Weigh(scratch, view, work, entry.PageIndex, block, blocks);
            for (int local = 4 * block; local < 4 * (block + blocks); local++)
            {
                SoftmaxState* state = scratch.Softmaxes + (local / 4);
                int r = local % 4;
                if (scratch.IsTouched[1 - view.Rotated] && state->Keep[r] != 1f)
                {
                    Multiply(scratch.OutputOf(1 - view.Rotated, local), state->Keep[r], _g.ValueWidth);
                }

                if (local < count && tokenOf[local] == work.Sequence.MeasuredToken)
                {
                    int member = firstQuery + local - (tokenOf[local] * _g.GroupSize);
                    float* stats = row.Stats(entry.PageIndex) + (2 * member);
                    (stats[0], stats[1]) = (state->PageLogit[r], state->PageSum[r]);
                }
            }

            if (seen > 0)
            {
                scratch.IsTouched[view.Rotated] = true;
                view.Accumulate(scratch.OutputOf(view.Rotated, 4 * block), 4 * blocks, seen, scratch.Softmaxes + block);
            }
        }
    }

    /// <summary>Brings the rotated half of each output back to the plain basis and adds it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Finish(in ItemOf work, int query, float* output, in QueryState state)
    {
        (int token, int member) = Math.DivRem(query, _g.GroupSize);
        long index = ((long)(work.Sequence.FirstToken + token) * _g.QueryHeads) + (work.Head * _g.GroupSize) + member;
        Output.Write<S, F, I>(index, output, _g.ValueWidth);
        float logSumExp = SoftmaxState.LogitOf(state.Maximum, _tile.LogitFactor, state.Exponent) + MathF.Log(state.Sum);
        if (LogSumExp != null)
        {
            LogSumExp[index] = logSumExp;
        }

        _batch.Keep(work.SequenceIndex, work.Sequence.Tokens - 1 - token, (work.Head * _g.GroupSize) + member, logSumExp);
        if (token == work.Sequence.MeasuredToken)
        {
            int row = _tier.Map.Row(_batch.Call.Layer, work.Head);
            ((float*)_tier.Tables)[_tier.Map.LogSumExpWord(work.Sequence.Sequence, row, member)] = logSumExp;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static QueryState StateOf(AttendScratch scratch, int query) =>
        new(scratch.Softmaxes[query / 4].Maximum[query % 4], scratch.Softmaxes[query / 4].Sum[query % 4], scratch.Softmaxes[query / 4].Exponent[query % 4]);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

    // From the weighted sum to the mean. Sums that were shrunk are of huge values: rounding must not take them, or the results of a merge,
    // beyond binary32.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Average(float* output, float sum, float shrink)
    {
        float inverse = sum > 0f ? 1f / sum : 0f;
        if (shrink == 1f)
        {
            Multiply(output, inverse, _g.ValueWidth);
            return;
        }

        for (int i = 0; i < _g.ValueWidth; i++)
        {
            float mean = output[i] * inverse;
            output[i] = !float.IsFinite(mean) ? mean : Math.Clamp(mean / shrink, -AlmostLargest, AlmostLargest);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply(float* output, float factor, int width)
    {
        F all = S.All(factor);
        for (int i = 0; i < width; i += S.Lanes)
        {
            S.Store(output + i, S.Multiply(S.Load(output + i), all));
        }
    }
}
