using System.Diagnostics;
using System.Text.Json.Serialization;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary>
/// Continues several prompts at once in one cache. A prefix that several have is read once and shared. Then all prompts step together until each is
/// done. Each is continued as if it ran alone.
/// </summary>
internal sealed class BatchGeneration(LlamaModel model, KvCacheOptions config)
{
    private readonly int _vocabulary = model.Config.VocabularySize;

    /// <summary>Reads prompts and continues them.</summary>
    /// <param name="prompts">The prompts.</param>
    /// <param name="newTokens">The most tokens to generate for each.</param>
    /// <param name="temperature">Temperature of the draws; 0 takes the most likely token.</param>
    /// <param name="seed">Seed of the draws of each prompt.</param>
    /// <exception cref="BudgetException">The budget does not hold the tokens.</exception>
    public BatchReport Run(SharedPrefixes prompts, IReadOnlyList<int> newTokens, double temperature, int seed)
    {
        using KvCache cache = new(model.Geometry(), config);
        using LlamaDecoder decoder = new(model, config.MaxBatchTokens);
        CacheBudget budget = new(model, config);
        ContextPlan plan = new(cache.Geometry, config);
        budget.RefuseWhatCannotFit(cache, prompts.LeastPageBytes(newTokens, plan, cache.Geometry.PageTokens));
        Continuation[] all =
        [
            .. Enumerable.Range(0, prompts.Count)
                .Select(i => new Continuation(prompts.Prompt(i), newTokens[i], new KvSampler(new KvSampling { Temperature = temperature, Seed = seed }), model.Config.EosTokenIds)),
        ];
        float[] logits = new float[all.Length * _vocabulary];
        long start = Stopwatch.GetTimestamp();
        try
        {
            int reused = ReadShared(cache, decoder, prompts, all);
            ReadOwn(decoder, all, logits);
            TimeSpan first = Stopwatch.GetElapsedTime(start);
            Continue(decoder, all, logits);
            TimeSpan last = Stopwatch.GetElapsedTime(start);
            cache.BackUpAsync().GetAwaiter().GetResult();
            return Report(cache, all, first, last) with { ReusedTokens = config.Tiers.Count == 0 ? null : reused };
        }
        catch (KvOutOfMemoryException e) when (budget.Explain(cache, e) is { } refusal)
        {
            throw refusal;
        }
    }

    // A prompt that begins like an earlier one is forked from it at the first token that differs, before the earlier one reads on.
    private static int ReadShared(KvCache cache, LlamaDecoder decoder, SharedPrefixes prompts, Continuation[] all)
    {
        int reused = 0;
        for (int i = 0; i < all.Length; i++)
        {
            if (all[i].Sequence is null)
            {
                // No further than to where the first heir parts; the last token is never reused.
                int end = prompts.Heirs(i).Select(heir => prompts.Tokens(heir) + 1).Append(all[i].Prompt.Length).Min();
                all[i].Sequence = cache.CreateSequence();
                reused += all[i].Sequence!.Reuse(all[i].Prompt.AsSpan(0, end));
            }

            KvSequence sequence = all[i].Sequence!;
            foreach (int heir in prompts.Heirs(i))
            {
                int unread = prompts.Tokens(heir) - sequence.Length;
                if (unread > 0)
                {
                    decoder.Prefill(sequence, all[i].Unread[..unread], default);
                }

                all[heir].Sequence = sequence.Fork();
            }
        }

        return reused;
    }

    // A step takes as many prompts as fit; a prompt that is too long for one step is read alone.
    private void ReadOwn(LlamaDecoder decoder, Continuation[] all, float[] logits)
    {
        for (int first = 0, count; first < all.Length; first += count)
        {
            int tokens = 0;
            for (count = 0; first + count < all.Length && tokens + all[first + count].Unread.Length <= config.MaxBatchTokens; count++)
            {
                tokens += all[first + count].Unread.Length;
            }

            if (count == 0)
            {
                count = 1;
                Span<float> last = logits.AsSpan(0, _vocabulary);
                decoder.Prefill(all[first].Sequence!, all[first].Unread, last);
                all[first].Take(last);
            }
            else
            {
                Continuation[] group = all[first..(first + count)];
                Step(decoder, group, [.. group.SelectMany(c => c.Unread.ToArray())], [.. group.Select(c => c.Unread.Length)], logits);
            }
        }
    }

    private void Continue(LlamaDecoder decoder, Continuation[] all, float[] logits)
    {
        for (Continuation[] live = Live(all); live.Length > 0; live = Live(live))
        {
            Step(decoder, live, [.. live.Select(c => c.Tokens[^1])], [.. Enumerable.Repeat(1, live.Length)], logits);
        }
    }

    private void Step(LlamaDecoder decoder, Continuation[] live, int[] tokens, int[] counts, float[] logits)
    {
        decoder.Forward([.. live.Select(c => c.Sequence!)], tokens, counts, logits.AsSpan(0, live.Length * _vocabulary));
        for (int i = 0; i < live.Length; i++)
        {
            live[i].Take(logits.AsSpan(i * _vocabulary, _vocabulary));
        }
    }

    private static Continuation[] Live(Continuation[] all) => [.. all.Where(c => !c.IsDone)];

    private BatchReport Report(KvCache cache, Continuation[] all, TimeSpan first, TimeSpan last)
    {
        int generated = all.Sum(c => c.Tokens.Count);
        long held = all.Sum(c => (long)c.Sequence!.Length);
        return new BatchReport(
            model.Name,
            config.Device,
            [.. all.Select(c => new BatchRunReport(c.Prompt, c.Tokens, model.Tokenizer?.Decode([.. c.Tokens])))],
            generated > all.Length ? (generated - all.Length) / (last - first).TotalSeconds : generated / last.TotalSeconds,
            new CacheReport(
                held,
                cache.AllocatedBytes,
                all.Sum(c => cache.Geometry.DenseF16Bytes(c.Sequence!.Length)),
                all.Sum(c => c.Sequence!.EvictedTokens),
                PagesReport.Of(cache)));
    }
}

/// <summary>The document of <c>kvcache run --json</c> with several prompts.</summary>
/// <param name="Model">The model directory's own name.</param>
/// <param name="Device">The device's id, "cpu".</param>
/// <param name="Runs">One report for each prompt, in the order of the prompts.</param>
/// <param name="TokensPerSecond">Generated tokens of all prompts divided by the time from the first token to the last; by the whole time if each prompt has only one.</param>
/// <param name="Cache">The content of the cache at the end: tokens and dense bytes are summed over the prompts, pages that they share are counted once.</param>
internal sealed record BatchReport(string Model, string Device, IReadOnlyList<BatchRunReport> Runs, double TokensPerSecond, CacheReport Cache)
{
    /// <summary>Number of prompt tokens that a tier had, shared ones once; left out without tiers.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? ReusedTokens { get; init; }

    /// <summary>The tiers below the cache; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TierReport>? Tiers { get; init; }
}

/// <summary>The result of one prompt.</summary>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="Tokens">The generated tokens, with the one that ends the text, if any.</param>
/// <param name="Text">Their text; null if the model has no tokenizer.</param>
internal sealed record BatchRunReport(IReadOnlyList<int> PromptTokens, IReadOnlyList<int> Tokens, string? Text);
