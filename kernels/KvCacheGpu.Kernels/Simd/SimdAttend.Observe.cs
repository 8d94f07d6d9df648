namespace KvCacheGpu.Kernels;

/// <content>What the last queries attended to, by page: logits and softmax of the pages, no values.</content>
internal sealed unsafe partial class SimdAttend<S, F, I>
{
    // An item is (sequence, KV head, segment of pages): its pages' scores are its own.
    private void Observe(int item, AttendScratch scratch)
    {
        ItemOf work = _batch.FindObserved(item);
        int row = _tier.Map.Row(work.Sequence.Sequence, Layer, work.Head);
        int entries = _tier.Tables[row];
        int segments = SimdBatch.SegmentsOf(entries, _g.PageTokens);
        if (work.Segment >= segments)
        {
            return;
        }

        int from = (int)((long)entries * work.Segment / segments);
        int to = (int)((long)entries * (work.Segment + 1) / segments);
        int end = work.Sequence.Tokens * _g.GroupSize;
        for (int firstRow = Math.Max(0, work.Sequence.Tokens - Observed) * _g.GroupSize; firstRow < end; firstRow += scratch.TileRows)
        {
            int rows = Math.Min(scratch.TileRows, end - firstRow);
            Prepare(scratch, work, firstRow, rows);
            for (int entry = from; entry < to; entry++)
            {
                PageView<S, F, I> view = View(
                    scratch, work, row, entry, entry + 1 < to ? entry + 1 : entry, rows, keysOnly: true, out int pageIndex);
                float mass = 0f;
                for (int block = 0; 4 * block < rows; block++)
                {
                    mass += Weigh(scratch, view, work, pageIndex, block) > 0 ? Mass(scratch, work, block, firstRow, rows) : 0f;
                }

                ((float*)_tier.Tables)[_tier.Map.ScoreWord(row, pageIndex) + TableMap.ScoreWindow] += mass / _g.GroupSize;
            }
        }
    }

    private float Mass(AttendScratch scratch, in ItemOf work, int block, int firstRow, int rows)
    {
        SoftmaxRows* state = scratch.Rows + block;
        float mass = 0f;
        for (int r = 0; r < 4 && (4 * block) + r < rows; r++)
        {
            (int token, int member) = Math.DivRem(firstRow + (4 * block) + r, _g.GroupSize);
            float lse = _batch.Kept(work.SequenceIndex, work.Sequence.Tokens - 1 - token, (work.Head * _g.GroupSize) + member);
            mass += state->PageSum[r] == 0f ? 0f : state->PageSum[r] * MathF.Exp(state->PageLogit[r] - lse);
        }

        return mass;
    }
}
