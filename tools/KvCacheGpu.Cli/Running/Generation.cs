using System.Diagnostics;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>One run: a cache, a sequence, and the text as it appears.</summary>
internal sealed class Generation(LlamaModel model, KvCacheOptions config, Terminal terminal, SavedRun saved)
{
    /// <summary>Reads a prompt and continues it.</summary>
    /// <param name="prompt">The prompt's tokens.</param>
    /// <param name="options">Settings of the continuation.</param>
    /// <param name="streaming">True to write text while it is generated.</param>
    /// <exception cref="BudgetException">The budget does not hold the tokens.</exception>
    public RunReport Run(int[] prompt, GenerateOptions options, bool streaming)
    {
        using KvCache cache = new(model.Geometry(), config);
        (KvSequence sequence, KvRestored? restored) = terminal.WithProgress(!streaming || !terminal.IsConsole, stages => saved.Begin(cache, stages));
        using LlamaDecoder decoder = new(model, config.MaxBatchTokens);
        CacheBudget budget = new(model, config);
        budget.RefuseWhatCannotFit(cache, new ContextPlan(cache.Geometry, config).PageBytes(config.MaxTokens - 1));
        int? reused = config.Tiers.Count == 0 ? null : sequence.Length == 0 ? sequence.Reuse(prompt) : 0;
        TokenText text = new(model.Tokenizer, streaming ? terminal.Output : TextWriter.Null);
        List<int> tokens = [];
        long start = Stopwatch.GetTimestamp();
        TimeSpan first = default;
        TimeSpan last = default;
        try
        {
            foreach (int token in decoder.Generate(sequence, prompt[(reused ?? 0)..], options))
            {
                last = Stopwatch.GetElapsedTime(start);
                first = tokens.Count == 0 ? last : first;
                tokens.Add(token);
                text.Write(token);
            }
        }
        catch (KvOutOfMemoryException e) when (budget.Explain(cache, e) is { } refusal)
        {
            text.End();
            throw refusal;
        }

        text.End();
        cache.BackUpAsync().GetAwaiter().GetResult();
        SnapshotInfo? left = terminal.WithProgress(!streaming || !terminal.IsConsole, stages => saved.End(sequence, tokens[^1], stages));
        return new RunReport(
            model.Name,
            config.Device,
            prompt,
            tokens,
            model.Tokenizer?.Decode([.. tokens]),
            tokens.Count > 1 ? (tokens.Count - 1) / (last - first).TotalSeconds : tokens.Count / last.TotalSeconds,
            new CacheReport(
                sequence.Length,
                cache.AllocatedBytes,
                cache.Geometry.DenseF16Bytes(sequence.Length),
                sequence.EvictedTokens,
                PagesReport.Of(cache)))
        {
            ReusedTokens = reused,
            Offload = config.Offload is null ? null : cache.GetOffloadCounts(),
            Restored = restored is null ? null : RestoredReport.Of(restored),
            Saved = left is null ? null : SnapshotReport.Of(left),
        };
    }
}
