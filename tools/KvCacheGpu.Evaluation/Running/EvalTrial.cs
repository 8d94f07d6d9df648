using System.Diagnostics;
using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>Makes a cache's configuration for a sequence of so many tokens.</summary>
public delegate KvCacheConfig EvalConfigure(EvalSetting setting, KvGeometry geometry, int tokens, string device);

/// <summary>Runs prompts through caches and keeps what came out.</summary>
internal sealed class EvalTrial(LlamaModel model, EvalConfigure configure, string device)
{
    private readonly int _vocabulary = model.Config.VocabularySize;
    private readonly KvGeometry _geometry = model.Geometry(EvalScale.PageTokens);

    /// <summary>Runs all prompts of a task.</summary>
    /// <exception cref="KvCacheException">The cache cannot be made or filled.</exception>
    public TrialResult Run(IReadOnlyList<EvalPrompt> prompts, EvalSetting setting, CancellationToken cancellationToken)
    {
        TrialResult result = new();
        foreach (EvalPrompt prompt in prompts)
        {
            Run(prompt, setting, result, cancellationToken);
        }

        return result;
    }

    private void Run(EvalPrompt prompt, EvalSetting setting, TrialResult result, CancellationToken cancellationToken)
    {
        KvCacheConfig config = configure(setting, _geometry, prompt.MostTokens, device);
        using KvCache cache = new(_geometry, config);
        using KvSequence sequence = cache.CreateSequence();
        using LlamaDecoder decoder = new(model, config.MaxBatchTokens);
        float[] next = new float[_vocabulary];
        long most = cache.AllocatedBytes;
        foreach (EvalPart part in prompt.Parts)
        {
            int[] tokens = [.. part.Tokens];
            int first = tokens.Length - part.Scored;
            if (part.Act == EvalAct.Probe)
            {
                Probe(decoder, sequence, tokens, part, result);
                continue;
            }

            int step = part.Act == EvalAct.Read ? config.MaxBatchTokens : 1;
            long start = Stopwatch.GetTimestamp();
            for (int at = 0; at < tokens.Length; at += step)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (at >= first)
                {
                    result.Keep(next, tokens[at], part.Label);
                }

                int count = Math.Min(step, tokens.Length - at);
                decoder.Forward(sequence, tokens.AsSpan(at, count), next);
                most = Math.Max(most, cache.AllocatedBytes);
            }

            result.AddTime(part.Act, tokens.Length, Stopwatch.GetElapsedTime(start));
        }

        KvPageCounts pages = cache.GetPageCounts();
        result.AllocatedBytes += most;
        result.PageBytes += sequence.AllocatedBytes;
        long dense = _geometry.DenseF16Bytes(prompt.MostTokens);
        result.DenseBytes += dense;

        // What was asked for, not what the cache made of it.
        result.BudgetBytes += (long)((setting.Budget ?? 0) * dense);
        result.EvictedTokens += sequence.EvictedTokens;
        result.OpenPages += pages.Open;
        result.SealedPages += pages.Sealed;
    }

    private void Probe(LlamaDecoder decoder, KvSequence sequence, int[] tokens, EvalPart part, TrialResult result)
    {
        int length = sequence.Length;
        int asked = tokens.Length - 1;
        float[] logits = new float[asked * _vocabulary];
        decoder.Forward(sequence, tokens.AsSpan(0, asked), logits);
        for (int at = tokens.Length - part.Scored; at < tokens.Length; at++)
        {
            result.Keep(logits.AsSpan((at - 1) * _vocabulary, _vocabulary), tokens[at], part.Label);
        }

        sequence.Truncate(length);
    }
}

/// <summary>What came out of a task's prompts.</summary>
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

    /// <summary>Scores this against the same prompts through the full cache, into a cell that names both.</summary>
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
