using System.Runtime.InteropServices;

namespace KvCacheGpu.Evaluation;

/// <summary>The results of a task's prompts.</summary>
internal sealed class TrialResult
{
    private readonly List<(float[] Logits, int Token, string Label)> _kept = [];
    private readonly Dictionary<EvalAct, (int Tokens, TimeSpan Time)> _times = [];

    public long AllocatedBytes { get; set; }

    public long PageBytes { get; set; }

    public long BudgetBytes { get; set; }

    public long DenseBytes { get; set; }

    public double EvictedTokens { get; set; }

    public int OpenPages { get; set; }

    public int SealedPages { get; set; }

    public void Keep(ReadOnlySpan<float> logits, int token, string label) => _kept.Add((logits.ToArray(), token, label));

    public void AddTime(EvalAct act, int tokens, TimeSpan time)
    {
        ref (int Tokens, TimeSpan Time) sum = ref CollectionsMarshal.GetValueRefOrAddDefault(_times, act, out _);
        sum = (sum.Tokens + tokens, sum.Time + time);
    }

    /// <summary>Scores these results against those of the same prompts with the full cache, and fills a cell.</summary>
    public EvalCell Score(EvalCell cell, TrialResult full)
    {
        TokenScore[] scores = [.. _kept.Zip(full._kept, (mine, other) => TokenScore.Of(mine.Logits, other.Logits, mine.Token))];
        return cell with
        {
            Scored = scores.Length,
            Accuracy = scores.Average(s => s.Right ? 1.0 : 0),
            Nll = scores.Average(s => s.Nll),
            DeltaNll = scores.Average(s => s.Nll - s.FullNll),
            Kl = scores.Average(s => s.Kl),
            Agreement = scores.Average(s => s.Agrees ? 1.0 : 0),
            AllocatedBytes = AllocatedBytes,
            PageBytes = PageBytes,
            BudgetBytes = cell.Budget is null ? null : BudgetBytes,
            DenseBytes = DenseBytes,
            EvictedTokens = EvictedTokens,
            OpenPages = OpenPages,
            SealedPages = SealedPages,
            ReadTokensPerSecond = Speed(EvalAct.Read) ?? 0,
            WriteTokensPerSecond = Speed(EvalAct.Write),
            Labels = _kept.Zip(scores)
                .Where(s => s.First.Label.Length > 0)
                .GroupBy(s => s.First.Label)
                .ToDictionary(g => g.Key, g => g.Average(s => s.Second.Right ? 1.0 : 0)),
        };
    }

    private double? Speed(EvalAct act) => _times.TryGetValue(act, out (int Tokens, TimeSpan Time) t) ? t.Tokens / t.Time.TotalSeconds : null;
}
