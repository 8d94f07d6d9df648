using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Scores of the batch's pages: an item is one row of the tables.</summary>
internal sealed unsafe class SimdScore<S, F, I>(SimdTier tier, SimdBatch batch) : SimdScoreWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const float Log2E = 1.4426950408889634f;

    // Exponentials taken at once.
    private const int Room = 256;

    // Pages whose exponentials are taken at once, at most.
    private const int MostPages = 64;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker)
    {
        KvGeometry g = tier.Shape.Geometry;
        (int index, int rest) = Math.DivRem(item, g.Layers * g.KvHeads);
        RaggedSequence sequence = batch.Sequences[index];
        int window = batch.WindowOf(rest / g.KvHeads);
        if (window == 0)
        {
            return;
        }

        var row = new TableRow(tier, sequence.Sequence, rest);
        (int entries, int group, int pageTokens) = (row.Count, g.GroupSize, g.PageTokens);
        long all = 0;
        for (int entry = 0; entry < entries; entry++)
        {
            // A row's statistics and scores lie a few pages together, far from the next ones: without this each run of them waits for memory.
            int page = row.PageIndexOf(entry);
            PageLogits<S, F, I>.Prefetch((byte*)row.Stats(page));
            PageLogits<S, F, I>.Prefetch((byte*)row.Scores(page));
            all += Seen(page, sequence.Length, window, pageTokens);
        }

        float* sums = (float*)tier.Tables + tier.Map.LogSumExpWord(sequence.Sequence, rest, 0);
        int tile = Math.Clamp(Room / group, 1, MostPages);
        float* largest = stackalloc float[(tile * group) + S.Lanes];
        int* pages = stackalloc int[tile];
        float shareOfFull = (float)pageTokens / all;
        for (int first = 0; first < entries; first += tile)
        {
            int count = Math.Min(tile, entries - first);
            float* next = largest;
            for (int i = 0; i < count; i++, next += group)
            {
                pages[i] = row.PageIndexOf(first + i);
                Weigh(row.Stats(pages[i]), sums, group, next);
            }

            for (float* at = largest; at < next; at += S.Lanes)
            {
                S.Store(at, Exp2<S, F, I>.Of(S.Load(at)));
            }

            next = largest;
            for (int i = 0; i < count; i++, next += group)
            {
                int seen = Seen(pages[i], sequence.Length, window, pageTokens);
                float share = seen == pageTokens ? shareOfFull : (float)seen / all;
                Update(row.Stats(pages[i]), next, group, share, row.Scores(pages[i]));
            }
        }
    }

    // Tokens of a page that the last query sees.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Seen(int page, int length, int window, int pageTokens)
    {
        int end = length - (page * pageTokens);
        return Math.Max(0, Math.Min(end, pageTokens) - Math.Max(0, end - window));
    }

    // The binary logarithm of the share of a page's heaviest token, of each query head: largest logit - log-sum-exp.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Weigh(float* stats, float* sums, int group, float* logarithms)
    {
        for (int member = 0; member < group; member++)
        {
            logarithms[member] = (stats[2 * member] - sums[member]) * Log2E;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Update(float* stats, float* largest, int group, float share, int* words)
    {
        (float mass, float peak) = (0f, 0f);
        for (int member = 0; member < group; member++)
        {
            mass += stats[(2 * member) + 1] * largest[member];
            peak = MathF.Max(peak, largest[member]);
        }

        mass /= group;
        var scores = (float*)words;
        scores[TableMap.ScoreMass] = (Decay * scores[TableMap.ScoreMass]) + mass;
        scores[TableMap.ScorePeak] = MathF.Max(Decay * scores[TableMap.ScorePeak], peak);
        scores[TableMap.ScoreLast] = mass;
        if (share > 0f && mass >= share)
        {
            words[TableMap.ScoreLastUsed] = Step;
            words[TableMap.ScoreUses]++;
        }
    }
}
