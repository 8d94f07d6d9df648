namespace KvCacheGpu.Kernels;

/// <summary>Scores of the batch's pages: an item is one row of the tables.</summary>
internal sealed unsafe class SimdScore(SimdTier tier, SimdBatch batch) : ParallelWork
{
    public float Decay { get; set; }

    public int Step { get; set; }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        KvGeometry g = tier.Shape.Geometry;
        TableMap map = tier.Map;
        (int index, int rest) = Math.DivRem(item, g.Layers * g.KvHeads);
        RaggedSequence sequence = batch.Sequences[index];
        int window = batch.WindowOf(rest / g.KvHeads);
        if (window == 0)
        {
            return;
        }

        int row = map.Row(sequence.Sequence, 0, 0) + rest;
        int* tags = tier.Tables + map.TagWord(row, 0);
        int entries = tier.Tables[row];
        long all = 0;
        for (int entry = 0; entry < entries; entry++)
        {
            all += Seen(TableMap.PageIndexOf(tags[entry]), sequence.Length, window, g.PageTokens);
        }

        float* sums = (float*)tier.Tables + map.LogSumExpWord(row, 0);
        for (int entry = 0; entry < entries; entry++)
        {
            int page = TableMap.PageIndexOf(tags[entry]);
            int seen = Seen(page, sequence.Length, window, g.PageTokens);
            Update((float*)tier.Tables + map.StatsWord(row, page), sums, g.GroupSize, (float)seen / all, tier.Tables + map.ScoreWord(row, page));
        }
    }

    // Tokens of a page that the last query sees.
    private static int Seen(int page, int length, int window, int pageTokens)
    {
        int end = length - (page * pageTokens);
        return Math.Max(0, Math.Min(end, pageTokens) - Math.Max(0, end - window));
    }

    private void Update(float* stats, float* sums, int group, float share, int* words)
    {
        (float mass, float peak) = (0f, 0f);
        for (int member = 0; member < group; member++, stats += 2)
        {
            float largest = MathF.Exp(stats[0] - sums[member]);
            mass += stats[1] * largest;
            peak = MathF.Max(peak, largest);
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
