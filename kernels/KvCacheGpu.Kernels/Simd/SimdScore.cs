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
        int entries = row.Count;
        long all = 0;
        for (int entry = 0; entry < entries; entry++)
        {
            all += Seen(row[entry].PageIndex, sequence.Length, window, g.PageTokens);
        }

        float* sums = (float*)tier.Tables + tier.Map.LogSumExpWord(sequence.Sequence, rest, 0);
        int tile = Math.Max(1, Room / g.GroupSize);
        float* largest = stackalloc float[(tile * g.GroupSize) + S.Lanes];
        for (int first = 0; first < entries; first += tile)
        {
            int count = Math.Min(tile, entries - first);
            Weigh(row, first, count, sums, largest);
            for (int i = 0; i < count; i++)
            {
                int page = row[first + i].PageIndex;
                int seen = Seen(page, sequence.Length, window, g.PageTokens);
                Update(row.Stats(page), largest + (i * g.GroupSize), g.GroupSize, (float)seen / all, row.Scores(page));
            }
        }
    }

    // Tokens of a page that the last query sees.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Seen(int page, int length, int window, int pageTokens)
    {
        int end = length - (page * pageTokens);
        return Math.Max(0, Math.Min(end, pageTokens) - Math.Max(0, end - window));
    }

    // The share of each page's heaviest token: exp(largest logit - log-sum-exp).
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Weigh(in TableRow row, int first, int pages, float* sums, float* largest)
    {
        int group = tier.Shape.Geometry.GroupSize;
        float* next = largest;
        for (int i = 0; i < pages; i++)
        {
            float* stats = row.Stats(row[first + i].PageIndex);
            for (int member = 0; member < group; member++)
            {
                *next++ = (stats[2 * member] - sums[member]) * Log2E;
            }
        }

        for (float* at = largest; at < next; at += S.Lanes)
        {
            S.Store(at, Exp2<S, F, I>.Of(S.Load(at)));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
