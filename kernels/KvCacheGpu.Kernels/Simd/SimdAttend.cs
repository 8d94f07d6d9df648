using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Attention of a ragged batch over pages where they lie. An item is (sequence, KV head, tile of query rows, segment of pages); it
/// walks its pages once with an online softmax (Milakov and Gimelshein 2018; tiled as FlashAttention-2, Dao 2023) and leaves a
/// finished output or, where a row is split, a partial one that the row's last segment merges (Flash-Decoding, Dao et al. 2023).
/// </summary>
internal sealed unsafe partial class SimdAttend<S, F, I> : SimdAttendWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const float Log2E = 1.442695041f;
    private const float Ln2 = 0.6931471806f;

    // A page read by more rows than this is expanded once, not once for every four of them.
    private const int ChunkRows = 8;

    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;
    private readonly KvGeometry _g;
    private readonly QueryVariants _variants;
    private readonly float _logitFactor;

    public SimdAttend(SimdTier tier, SimdBatch batch)
    {
        (_tier, _batch, _g) = (tier, batch, tier.Shape.Geometry);
        _logitFactor = Log2E / MathF.Sqrt(_g.KeyWidth);
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
        int segments = work.Sequence.Tokens == 1 ? SimdBatch.Segments(entries, _g.PageTokens) : 1;
        if (work.Segment >= segments)
        {
            return;
        }

        int firstRow = work.Tile * scratch.TileRows;
        int rows = Math.Min(scratch.TileRows, (work.Sequence.Tokens * _g.GroupSize) - firstRow);
        Prepare(scratch, work, firstRow, rows);
        int from = (int)((long)entries * work.Segment / segments);
        int to = (int)((long)entries * (work.Segment + 1) / segments);
        long seenFrom = (long)work.Sequence.Length - work.Sequence.Tokens + (firstRow / _g.GroupSize) - Window + 1;
        for (int entry = from; entry < to; entry++)
        {
            int page = TableMap.PageIndexOf(_tier.Tables[_tier.Map.TagWord(row, entry)]);
            if ((page + 1L) * _g.PageTokens <= seenFrom)
            {
                Skip(work, row, page, firstRow, rows);
                continue;
            }

            Visit(scratch, work, row, entry, entry + 1 < to ? entry + 1 : entry, firstRow, rows);
        }

        Gather(scratch, rows);
        if (segments == 1)
        {
            for (int r = 0; r < rows; r++)
            {
                Finish(work, row, firstRow + r, scratch.OutputRow(0, r), StateOf(scratch, r));
            }
        }
        else
        {
            SplitRows split = _batch.SplitOf(work.SequenceIndex, work.Head);
            for (int r = 0; r < rows; r++)
            {
                split.Put(work.Segment, firstRow + r, StateOf(scratch, r), scratch.OutputRow(0, r), _g.ValueWidth);
            }

            if (split.Arrive() == segments * _batch.TilesOf(work.Sequence))
            {
                for (int r = 0; r < _g.GroupSize; r++)
                {
                    RowState state = split.Merge(segments, r, _g.ValueWidth, out float* merged);
                    Finish(work, row, r, merged, state);
                }
            }
        }
    }

    private void Prepare(AttendScratch scratch, in ItemOf work, int firstRow, int rows)
    {
        int blocks = (rows + 3) / 4;
        Array.Clear(scratch.IsTouched);
        new Span<float>(scratch.OutputRow(0, 0), 4 * blocks * scratch.OutputStride).Clear();
        new Span<float>(scratch.OutputRow(1, 0), _tier.RotatesValues ? 4 * blocks * scratch.OutputStride : 0).Clear();
        for (int block = 0; block < blocks; block++)
        {
            scratch.Rows[block].Clear();
            float* plain = scratch.QueryBlock(_variants.Of(KernelShape.Open), block);
            for (int r = 0; r < 4; r++)
            {
                // Rows that fill up the last block repeat the last real one; their results go nowhere.
                int query = firstRow + Math.Min((4 * block) + r, rows - 1);
                (int token, int member) = Math.DivRem(query, _g.GroupSize);
                scratch.TokenOf[(4 * block) + r] = token;
                Queries.Read(work.Sequence.FirstToken + token, (work.Head * _g.GroupSize) + member, _g.KeyWidth, plain + r, 4);
            }

            for (int variant = 1; variant < _variants.Count; variant++)
            {
                if (_variants.IsUsed(Layer, variant))
                {
                    float* other = scratch.QueryBlock(variant, block);
                    new Span<float>(plain, 4 * _g.KeyWidth).CopyTo(new Span<float>(other, 4 * _g.KeyWidth));
                    if (_variants.IsRotated(variant))
                    {
                        RotateRows.Apply(other, _g.KeyWidth, _tier.KeySigns);
                    }

                    Normalize(scratch, variant, block);
                }
            }

            Normalize(scratch, _variants.Of(KernelShape.Open), block);
        }
    }

    /// <summary>Brings each query below 1 by a power of two and folds in the key format's factor, so that no product overflows.</summary>
    private void Normalize(AttendScratch scratch, int variant, int block)
    {
        float* q = scratch.QueryBlock(variant, block);
        float factor = _variants.Factor(variant);
        Vector128<int> magnitudes = default;
        for (int i = 0; i < 4 * _g.KeyWidth; i += 4)
        {
            // As integers magnitudes are ordered alike, NaN on top, and compare in one instruction.
            magnitudes = Vector128.Max(magnitudes, Vector128.Abs(Vector128.Load(q + i)).AsInt32());
        }

        Vector128<float> largest = magnitudes.AsSingle();

        Vector128<float> scales = default;
        for (int r = 0; r < 4; r++)
        {
            int exponent = largest[r] > 0 && float.IsFinite(largest[r]) ? MathF.ILogB(largest[r]) + 1 : 0;
            scales = scales.WithElement(r, MathF.ScaleB(1f, -exponent) * factor);
            scratch.Factors[(variant * scratch.TileRows) + (4 * block) + r] = MathF.ScaleB(_logitFactor, exponent);
        }

        for (int i = 0; i < 4 * _g.KeyWidth; i += 4)
        {
            (Vector128.Load(q + i) * scales).Store(q + i);
        }
    }

    // No row of the tile sees the page: its bytes are not read.
    private void Skip(in ItemOf work, int row, int page, int firstRow, int rows)
    {
        int last = (work.Sequence.Tokens - 1) * _g.GroupSize;
        for (int query = Math.Max(firstRow, last); query < firstRow + rows && !work.Sequence.KeepsStatistics; query++)
        {
            float* stats = (float*)_tier.Tables + _tier.Map.StatsWord(row, page) + (2 * (query - last));
            (stats[0], stats[1]) = (float.NegativeInfinity, 0f);
        }
    }

    private void Visit(AttendScratch scratch, in ItemOf work, int row, int entry, int nextEntry, int firstRow, int rows)
    {
        PageView<S, F, I> view = View(scratch, work, row, entry, nextEntry, rows, keysOnly: false, out int pageIndex);
        int* tokenOf = scratch.TokenOf;
        for (int block = 0; 4 * block < rows; block++)
        {
            SoftmaxRows* state = scratch.Rows + block;
            int seen = Weigh(scratch, view, work, pageIndex, block);
            for (int r = 0; r < 4; r++)
            {
                int local = (4 * block) + r;
                if (scratch.IsTouched[1 - view.Rotated] && state->Keep[r] != 1f)
                {
                    Multiply(scratch.OutputRow(1 - view.Rotated, local), state->Keep[r], _g.ValueWidth);
                }

                if (local < rows && tokenOf[local] == work.Sequence.MeasuredToken)
                {
                    int member = firstRow + local - (tokenOf[local] * _g.GroupSize);
                    float* stats = (float*)_tier.Tables + _tier.Map.StatsWord(row, pageIndex) + (2 * member);
                    (stats[0], stats[1]) = (state->PageMaximum[r] * Ln2, state->PageSum[r]);
                }
            }

            if (seen > 0)
            {
                scratch.IsTouched[view.Rotated] = true;
                view.Accumulate(scratch.OutputRow(view.Rotated, 4 * block), seen, state);
            }
        }
    }

    private PageView<S, F, I> View(
        AttendScratch scratch, in ItemOf work, int row, int entry, int nextEntry, int rows, bool keysOnly, out int pageIndex)
    {
        int tag = _tier.Tables[_tier.Map.TagWord(row, entry)];
        pageIndex = TableMap.PageIndexOf(tag);
        int* page = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, entry)]);
        int* ahead = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, nextEntry)]);
        int most = Math.Clamp(FirstPosition(work, pageIndex) + scratch.TokenOf[rows - 1], 0, _g.PageTokens);
        bool isChunk = (long)work.Sequence.Tokens * _g.GroupSize > ChunkRows;
        int pageClass = TableMap.ClassOf(tag);
        return new PageView<S, F, I>(_tier.Shape.Classes[pageClass], page, ahead, _g, scratch, most, isChunk, keysOnly)
        {
            Variant = _variants.Of(pageClass),
        };
    }

    // Tokens of the page that the first token of the launch sees; below 1 where the page comes after it.
    private int FirstPosition(in ItemOf work, int pageIndex) =>
        work.Sequence.Length - work.Sequence.Tokens - (pageIndex * _g.PageTokens) + 1;

    /// <summary>Leaves the weights of four rows on a page; returns the tokens of it that any of them sees.</summary>
    private int Weigh(AttendScratch scratch, in PageView<S, F, I> view, in ItemOf work, int pageIndex, int block)
    {
        int firstPosition = FirstPosition(work, pageIndex);
        int* tokenOf = scratch.TokenOf + (4 * block);
        int seen = Math.Clamp(firstPosition + tokenOf[3], 0, _g.PageTokens);
        seen = (long)firstPosition + tokenOf[0] - Window < _g.PageTokens ? seen : 0;
        SoftmaxRows* state = scratch.Rows + block;
        for (int r = 0; r < 4; r++)
        {
            int end = firstPosition + tokenOf[r];
            state->First[r] = end > Window ? end - Window : 0;
            state->Count[r] = Math.Clamp(end, 0, _g.PageTokens);
            state->Factor[r] = scratch.Factors[(view.Variant * scratch.TileRows) + (4 * block) + r];
        }

        if (seen > 0)
        {
            view.Logits(scratch.QueryBlock(view.Variant, block), seen, state);
        }

        view.Weigh(seen, state);
        return seen;
    }

    /// <summary>Brings the rotated half of each output back to the plain basis and adds it.</summary>
    private void Gather(AttendScratch scratch, int rows)
    {
        if (!scratch.IsTouched[1])
        {
            return;
        }

        RowPlan plan = _tier.ValueRows;
        float* turned = scratch.Turned;
        for (int block = 0; 4 * block < rows; block++)
        {
            for (int r = 0; r < 4; r++)
            {
                new Span<float>(scratch.OutputRow(1, (4 * block) + r), plan.Stride).CopyTo(new Span<float>(turned + (r * plan.Stride), plan.Stride));
            }

            RowRotation<S, F, I>.Transform<SimdF32, Back>((int*)turned, turned, 4 * plan.Stride, plan, plan.Normed);
            for (int r = 0; r < 4; r++)
            {
                float* plain = scratch.OutputRow(0, (4 * block) + r);
                for (int i = 0; i < plan.Stride; i += S.Lanes)
                {
                    S.Store(plain + i, S.Add(S.Load(plain + i), S.Load(turned + (r * plan.Stride) + i)));
                }
            }
        }
    }

    private void Finish(in ItemOf work, int row, int query, float* output, in RowState state)
    {
        (int token, int member) = Math.DivRem(query, _g.GroupSize);
        long index = ((long)(work.Sequence.FirstToken + token) * _g.QueryHeads) + (work.Head * _g.GroupSize) + member;
        float* target = Output + (index * _g.ValueWidth);
        float inverse = 1f / state.Sum;
        for (int i = 0; i < _g.ValueWidth; i++)
        {
            target[i] = output[i] * inverse;
        }

        float logSumExp = (state.Maximum * Ln2) + MathF.Log(state.Sum);
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

    private static RowState StateOf(AttendScratch scratch, int row) =>
        new(scratch.Rows[row / 4].Maximum[row % 4], scratch.Rows[row / 4].Sum[row % 4]);

    private static void Multiply(float* row, float factor, int width)
    {
        for (int i = 0; i < width; i++)
        {
            row[i] *= factor;
        }
    }
}
