using System.Diagnostics;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>Makes a cache's configuration for a sequence of so many tokens, whose future is told where a policy is to know it.</summary>
public delegate KvCacheOptions EvalConfigure(EvalSetting setting, KvGeometry geometry, int tokens, string device, KvFutureMass? future);

/// <summary>Runs prompts through caches and keeps the results.</summary>
internal sealed class EvalTrial(LlamaModel model, EvalConfigure configure, string device)
{
    private readonly int _vocabulary = model.Config.VocabularySize;
    private readonly KvGeometry _geometry = model.Geometry(EvalScale.PageTokens);

    /// <summary>Runs all prompts of a task.</summary>
    /// <param name="prompts">The prompts.</param>
    /// <param name="setting">The cache.</param>
    /// <param name="full">The results of the same prompts with the full cache, with which these are compared; null for the full cache itself.</param>
    /// <param name="futures">The result of <see cref="Foresee"/> for them, for a policy that must know it; otherwise null.</param>
    /// <param name="cancellationToken">Is checked between steps.</param>
    /// <exception cref="KvCacheException">The cache cannot be made or filled.</exception>
    public TrialResult Run(
        IReadOnlyList<EvalPrompt> prompts, EvalSetting setting, TrialResult? full, IReadOnlyList<FutureMass>? futures, CancellationToken cancellationToken)
    {
        TrialResult result = new(full);
        for (int i = 0; i < prompts.Count; i++)
        {
            int past = 0;
            FutureMass? known = futures?[i];
            KvFutureMass? future = known is null ? null : (row, page) => known.After(past, row, page);
            KvCacheOptions config = configure(setting, _geometry, prompts[i].MostTokens, device, future);
            Run(prompts[i], setting, config, result, () => past++, cancellationToken);
        }

        return result;
    }

    /// <summary>Runs all prompts through the full cache, and records the attention of their probes, of written tokens, and of the last token of each step of a text that is scored.</summary>
    /// <returns>One per prompt.</returns>
    public IReadOnlyList<FutureMass> Foresee(IReadOnlyList<EvalPrompt> prompts, CancellationToken cancellationToken)
    {
        List<FutureMass> futures = [];
        foreach (EvalPrompt prompt in prompts)
        {
            AttentionWatch watch = new(_geometry, prompt.MostTokens);
            KvCacheOptions config = configure(EvalSetting.Full, _geometry, prompt.MostTokens, device, null);
            config.Policy = watch;
            Run(prompt, EvalSetting.Full, config, new TrialResult(null), watch.Keep, cancellationToken);
            futures.Add(watch.Future);
        }

        return futures;
    }

    private void Run(
        EvalPrompt prompt, EvalSetting setting, KvCacheOptions config, TrialResult result, Action asked, CancellationToken cancellationToken)
    {
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
                asked();
                continue;
            }

            int step = part.Act == EvalAct.Read ? config.MaxBatchTokens : 1;
            float[] logits = part.Scored > 0 ? new float[step * _vocabulary] : next;
            TimeSpan time = TimeSpan.Zero;
            for (int at = 0; at < tokens.Length; at += step)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int count = Math.Min(step, tokens.Length - at);
                Span<float> rows = logits.AsSpan(0, part.Scored > 0 ? count * _vocabulary : _vocabulary);
                long start = Stopwatch.GetTimestamp();
                decoder.Forward(sequence, tokens.AsSpan(at, count), rows);
                time += Stopwatch.GetElapsedTime(start);
                most = Math.Max(most, cache.AllocatedBytes);
                for (int i = 0; i < count; i++)
                {
                    if (at + i >= first)
                    {
                        // The first token of a step was predicted by the last one of the step before.
                        result.Keep(i == 0 ? next : rows.Slice((i - 1) * _vocabulary, _vocabulary), tokens[at + i], part.Label);
                    }
                }

                rows[^_vocabulary..].CopyTo(next);
                if (part.Act == EvalAct.Write || part.Scored > 0)
                {
                    asked();
                }
            }

            result.AddTime(part.Act, tokens.Length, time);
        }

        KvPageCounts pages = cache.GetPageCounts();
        result.AllocatedBytes += most;
        result.PageBytes += sequence.AllocatedBytes;
        long dense = _geometry.DenseF16Bytes(prompt.MostTokens);
        result.DenseBytes += dense;

        // The budget that was asked for, which may differ from the bytes that the cache took.
        result.BudgetBytes += EvalCaches.BudgetOf(setting, _geometry, config) ?? 0;
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
