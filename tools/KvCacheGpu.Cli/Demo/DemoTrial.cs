using System.Diagnostics;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary>
/// Tries one cache on the document. The cache reads it before any question is known. Each question, and the held-out text for the perplexity,
/// goes to a fork of it.
/// </summary>
internal sealed class DemoTrial(LlamaModel model, DemoText text, DemoSetup setup, string device)
{
    private readonly float[] _logits = new float[model.Config.VocabularySize];

    /// <summary>Runs every kernel once, so that the measured times do not include compilation.</summary>
    public void WarmUp()
    {
        KvCacheOptions config = setup.Config(device);
        using KvCache cache = new(model.Geometry(DemoSetup.PageTokens), config);
        using KvSequence sequence = cache.CreateSequence();
        using LlamaDecoder decoder = new(model, config.MaxBatchTokens);
        decoder.Prefill(sequence, text.Document.AsSpan(0, text.Document.Length / 4), default);
        Write(decoder, sequence, new Direct<int>(_ => { }));
    }

    /// <summary>Reads the document, asks the questions, and writes the held-out text.</summary>
    public DemoCacheReport Run(IStages stages)
    {
        KvCacheOptions config = setup.Config(device);
        KvGeometry geometry = model.Geometry(DemoSetup.PageTokens);
        using KvCache reading = new(geometry, config);
        KvSequence document = reading.CreateSequence();
        using LlamaDecoder decoder = new(model, config.MaxBatchTokens);

        long start = Stopwatch.GetTimestamp();
        decoder.Prefill(document, text.Document, default, stages.Begin($"{setup.Name}: reading {text.Document.Length} tokens", text.Document.Length));
        TimeSpan read = Stopwatch.GetElapsedTime(start);
        using KvCache? other = setup.IsRestored ? new KvCache(geometry, config) : null;
        KvRestored? restored = other is null ? null : Restore(document, other, stages);
        document = restored?.Sequences[0] ?? document;
        KvCache cache = document.Cache;
        (long allocated, long pages, double evicted) = (cache.AllocatedBytes, document.AllocatedBytes, document.EvictedTokens);

        int right = Ask(decoder, document, stages.Begin($"{setup.Name}: asking {text.Facts.Count} questions", text.Facts.Count));
        (double perplexity, TimeSpan writing) =
            Write(decoder, document, stages.Begin($"{setup.Name}: writing {text.Continuation.Length} tokens", text.Continuation.Length));
        return new DemoCacheReport(
            setup.Name,
            setup.Formats.Key.Name(),
            setup.Formats.Value.Name(),
            setup.WindowTokens,
            text.Facts.Count,
            right,
            (double)right / text.Facts.Count,
            perplexity,
            allocated,
            pages,
            (double)allocated / geometry.DenseF16Bytes(text.Document.Length),
            evicted,
            text.Document.Length / read.TotalSeconds,
            text.Continuation.Length / writing.TotalSeconds)
        {
            Restored = restored is null ? null : RestoredReport.Of(restored),
        };
    }

    // Saves to a real store in a temporary folder, and restores from it.
    private KvRestored Restore(KvSequence document, KvCache other, IStages stages)
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-demo-").FullName;
        try
        {
            SnapshotStore store = new(folder);
            StoreChoice.Run(document.Cache.SaveAsync(store, "demo", [document], new StoreProgress(stages, $"{setup.Name}: saving")));
            document.Cache.Dispose();
            return StoreChoice.Run(other.LoadAsync(store, "demo", progress: new StoreProgress(stages, $"{setup.Name}: restoring")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private int Ask(LlamaDecoder decoder, KvSequence document, IProgress<int> progress)
    {
        int right = 0;
        for (int i = 0; i < text.Facts.Count; i++)
        {
            using KvSequence question = document.Fork();
            decoder.Forward(question, [.. text.Facts[i].Question], _logits);
            right += KvSampler.Greedy(_logits) == text.Facts[i].Value ? 1 : 0;
            progress.Report(i + 1);
        }

        return right;
    }

    // Writes token by token, as decoding does. Each token is predicted from the earlier ones that the cache still holds.
    private (double Perplexity, TimeSpan Time) Write(LlamaDecoder decoder, KvSequence document, IProgress<int> progress)
    {
        using KvSequence continuation = document.Fork();
        TimeSpan time = default;
        double surprise = 0;
        for (int i = 0; i < text.Continuation.Length; i++)
        {
            surprise += i > 0 ? Surprise(text.Continuation[i]) : 0;
            long start = Stopwatch.GetTimestamp();
            decoder.Forward(continuation, text.Continuation.AsSpan(i, 1), _logits);
            time += Stopwatch.GetElapsedTime(start);
            progress.Report(i + 1);
        }

        return (Math.Exp(surprise / (text.Continuation.Length - 1)), time);
    }

    // The negative logarithm of the token's probability.
    private double Surprise(int token)
    {
        double largest = _logits.Max();
        return Math.Log(_logits.Sum(logit => Math.Exp(logit - largest))) + largest - _logits[token];
    }
}
