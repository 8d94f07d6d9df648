using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <content>Scores, in the words of their definition.</content>
internal sealed unsafe partial class ReferenceBatch
{
    /// <inheritdoc/>
    public override void Observe(int layer, KvTensor queries, int last)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        ThrowIfNotObservable(layer, _attended, last);
        int heads = _geometry.QueryHeads;
        queries.ThrowIfNotShaped(Tokens(), heads, _geometry.KeyWidth, nameof(queries));
        foreach (ref readonly RaggedSequence s in _sequences.AsSpan(0, _count))
        {
            for (int i = Math.Max(0, s.Tokens - last); i < s.Tokens; i++)
            {
                for (int head = 0; head < heads; head++)
                {
                    Copy(queries, s.FirstToken + i, head, heads, _query);
                    int row = _tier.Map.Row(layer, head / _geometry.GroupSize);
                    PrepareQuery(_tier.Exponents(_tier.KeyRow(s.KeyTable, row)));
                    ObserveOne(s.Sequence, row, s.Length - s.Tokens + i, _windows[layer]);
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void Score(float decay, int step)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        foreach (ref readonly RaggedSequence s in _sequences.AsSpan(0, _count))
        {
            for (int layer = 0; layer < _geometry.Layers; layer++)
            {
                for (int head = 0; head < _geometry.KvHeads && _windows[layer] > 0; head++)
                {
                    ScoreRow(s, _tier.Map.Row(layer, head), _windows[layer], decay, step);
                }
            }
        }
    }

    private void ScoreRow(in RaggedSequence s, int row, int window, float decay, int step)
    {
        double all = 0;
        for (int entry = 0; entry < _tier.Count(s.Sequence, row); entry++)
        {
            (int from, int to) = SeenOf(s.Sequence, row, entry, s.Length - 1, window);
            all += to - from;
        }

        for (int entry = 0; entry < _tier.Count(s.Sequence, row); entry++)
        {
            int page = TableMap.PageIndexOf(_tier.TagOf(s.Sequence, row, entry));
            (int from, int to) = SeenOf(s.Sequence, row, entry, s.Length - 1, window);
            float* stats = _tier.Statistics(s.Sequence, row, page);
            (double mass, double peak) = (0, 0);
            for (int member = 0; member < _geometry.GroupSize; member++)
            {
                double largest = Math.Exp(stats[2 * member] - ((float*)_tier.Arena)[_tier.Map.LogSumExpWord(s.Sequence, row, member)]);
                mass += stats[(2 * member) + 1] * largest / _geometry.GroupSize;
                peak = Math.Max(peak, largest);
            }

            int* words = _tier.Scores(s.Sequence, row, page);
            var scores = (float*)words;
            scores[TableMap.ScoreMass] = (float)((decay * scores[TableMap.ScoreMass]) + mass);
            scores[TableMap.ScorePeak] = (float)Math.Max(decay * scores[TableMap.ScorePeak], peak);
            scores[TableMap.ScoreLast] = (float)mass;
            if (to > from && (float)mass >= (float)((to - from) / all))
            {
                words[TableMap.ScoreLastUsed] = step;
                words[TableMap.ScoreUses]++;
            }
        }
    }

    private void ObserveOne(int sequence, int row, int position, int window)
    {
        (double largest, double total) = (double.NegativeInfinity, 0);
        for (int pass = 0; pass < 3; pass++)
        {
            for (int entry = 0; entry < _tier.Count(sequence, row); entry++)
            {
                int tag = _tier.TagOf(sequence, row, entry);
                (int from, int to) = SeenOf(sequence, row, entry, position, window);
                double most = Logits(_tier.Keys(_tier.SlotOf(sequence, row, entry), TableMap.ClassOf(tag)), from, to);
                double sum = 0;
                for (int t = from; t < to && pass > 0; t++)
                {
                    sum += Math.Exp(_logits[t] - largest);
                }

                if (pass < 2)
                {
                    (largest, total) = (pass == 0 ? Math.Max(largest, most) : largest, total + sum);
                }
                else
                {
                    var scores = (float*)_tier.Scores(sequence, row, TableMap.PageIndexOf(tag));
                    scores[TableMap.ScoreWindow] += (float)(sum / total / _geometry.GroupSize);
                }
            }
        }
    }

    private (int From, int To) SeenOf(int sequence, int row, int entry, int position, int window)
    {
        int first = TableMap.PageIndexOf(_tier.TagOf(sequence, row, entry)) * _geometry.PageTokens;
        int to = Math.Clamp(position - first + 1, 0, _geometry.PageTokens);
        return (Math.Clamp(position - window + 1 - first, 0, to), to);
    }
}
