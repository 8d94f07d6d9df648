using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The attention that the last queries paid to each page: its logits and softmax, no values. An item is (sequence, KV head, segment of pages):
/// no other item writes the scores of its pages.
/// </summary>
internal sealed unsafe class SimdObserve<S, F, I>(SimdTier tier, SimdBatch batch) : SimdObserveWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly KvGeometry _g = tier.Shape.Geometry;
    private readonly AttendTile<S, F, I> _tile = new(tier, batch);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker)
    {
        AttendScratch scratch = batch.Scratch(worker);
        ItemOf work = batch.FindObserved(item);
        TableRow row = batch.RowOf(work.Sequence, batch.Call.Layer, work.Head);
        int entries = row.Count;
        int segments = SimdBatch.SegmentsOf(entries, _g.PageTokens);
        if (work.Segment >= segments)
        {
            return;
        }

        int from = (int)((long)entries * work.Segment / segments);
        int to = (int)((long)entries * (work.Segment + 1) / segments);
        int end = work.Sequence.Tokens * _g.GroupSize;
        for (int firstQuery = Math.Max(0, work.Sequence.Tokens - Last) * _g.GroupSize; firstQuery < end; firstQuery += scratch.TileQueries)
        {
            int count = Math.Min(scratch.TileQueries, end - firstQuery);
            _tile.Prepare(scratch, work, firstQuery, count);
            TableEntry next = from < to ? row[from] : default;
            for (int i = from; i < to; i++)
            {
                TableEntry entry = next;
                next = i + 1 < to ? row[i + 1] : entry;
                PageView<S, F, I> view = _tile.View(scratch, work, entry, next, count, keysOnly: true);
                float mass = 0f;
                for (int block = 0; 4 * block < count; block++)
                {
                    mass += _tile.Weigh(scratch, view, work, entry.PageIndex, block, blocks: 1) > 0 ? Mass(scratch, work, block, firstQuery, count) : 0f;
                }

                ((float*)row.Scores(entry.PageIndex))[TableMap.ScoreWindow] += mass / _g.GroupSize;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private float Mass(AttendScratch scratch, in ItemOf work, int block, int firstQuery, int count)
    {
        SoftmaxState* state = scratch.Softmaxes + block;
        float mass = 0f;
        for (int r = 0; r < 4 && (4 * block) + r < count; r++)
        {
            (int token, int member) = Math.DivRem(firstQuery + (4 * block) + r, _g.GroupSize);
            float lse = batch.Kept(work.SequenceIndex, work.Sequence.Tokens - 1 - token, (work.Head * _g.GroupSize) + member);
            mass += state->PageSum[r] == 0f ? 0f : state->PageSum[r] * MathF.Exp(state->PageLogit[r] - lse);
        }

        return mass;
    }
}
