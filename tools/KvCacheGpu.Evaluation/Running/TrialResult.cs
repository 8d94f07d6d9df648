using System.Runtime.InteropServices;

namespace KvCacheGpu.Evaluation;

/// <summary>The results of a task's prompts.</summary>
/// <param name="full">The results of the same prompts with the full cache; null if these are the ones, whose logits are kept for the others.</param>
internal sealed class TrialResult(TrialResult? full)
{
    private readonly List<float[]> _logits = [];
    private readonly List<(TokenScore Score, string Label)> _scores = [];
    private readonly Dictionary<EvalAct, (int Tokens, TimeSpan Time)> _times = [];

    public long AllocatedBytes { get; set; }

    public long PageBytes { get; set; }

    public long BudgetBytes { get; set; }

    public long DenseBytes { get; set; }

    public double EvictedTokens { get; set; }

    public int OpenPages { get; set; }

    public int SealedPages { get; set; }

    /// <summary>Scores a token's prediction against that of the full cache.</summary>
    public void Keep(ReadOnlySpan<float> logits, int token, string label)
    {
        _scores.Add((TokenScore.Of(logits, full is null ? logits : full._logits[_scores.Count], token), label));
        if (full is null)
        {
            _logits.Add(logits.ToArray());
        }
    }

    public void AddTime(EvalAct act, int tokens, TimeSpan time)
    {
        ref (int Tokens, TimeSpan Time) sum = ref CollectionsMarshal.GetValueRefOrAddDefault(_times, act, out _);
        sum = (sum.Tokens + tokens, sum.Time + time);
    }

    /// <summary>Fills a cell with the results.</summary>
    public EvalCell Fill(EvalCell cell)
    {
        TokenScore[] scores = [.. _scores.Select(s => s.Score)];
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
            Labels = _scores
                .Where(s => s.Label.Length > 0)
                .GroupBy(s => s.Label)
                .ToDictionary(g => g.Key, g => g.Average(s => s.Score.Right ? 1.0 : 0)),
        };
    }

    private double? Speed(EvalAct act) => _times.TryGetValue(act, out (int Tokens, TimeSpan Time) t) ? t.Tokens / t.Time.TotalSeconds : null;
}
