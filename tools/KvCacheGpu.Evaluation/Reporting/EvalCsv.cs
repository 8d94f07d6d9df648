using System.Globalization;
using System.Text;

namespace KvCacheGpu.Evaluation;

/// <summary>Writes rows as comma-separated values: numbers with a point, shares as 0..1, and an empty field for a missing value.</summary>
public static class EvalCsv
{
    /// <summary>The first line.</summary>
    public const string Header =
        "task,format,policy,budget,above_empty,first_seed,seeds,scored,accuracy,accuracy_low,accuracy_high,delta_nll,delta_nll_low,delta_nll_high,nll,kl,kl_low,kl_high,agreement,"
        + "allocated_bytes,page_bytes,dense_f16_bytes,ratio,evicted_tokens,read_tokens_per_second,write_tokens_per_second";

    /// <summary>Writes the whole text.</summary>
    public static string Write(IEnumerable<EvalRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        StringBuilder text = new(Header + "\n");
        foreach (EvalRow r in rows)
        {
            object?[] fields =
            [
                r.Task, r.Setting.Format, r.Setting.Policy, r.Setting.Budget, r.Setting.AboveEmpty ? 1 : 0, r.FirstSeed, r.Seeds, r.Scored, r.Accuracy.Mean, r.Accuracy.Low, r.Accuracy.High,
                r.DeltaNll.Mean, r.DeltaNll.Low, r.DeltaNll.High, r.Nll, r.Kl.Mean, r.Kl.Low, r.Kl.High, r.Agreement,
                r.AllocatedBytes, r.PageBytes, r.DenseBytes, r.Ratio, r.EvictedTokens, r.ReadTokensPerSecond, r.WriteTokensPerSecond,
            ];
            text.AppendJoin(',', fields.Select(f => string.Create(CultureInfo.InvariantCulture, $"{f}"))).Append('\n');
        }

        return text.ToString();
    }
}
