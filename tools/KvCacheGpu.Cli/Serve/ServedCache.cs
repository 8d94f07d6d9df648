using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary>A model, its cache, and what serves it.</summary>
internal sealed class ServedCache : IDisposable
{
    private readonly LlamaServedModel _model;
    private readonly OpenTiers _tiers;
    private readonly KvCache _cache;

    /// <summary>Makes the cache. Model and tiers are this one's from now on, once it is made.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tiers">Tiers below the cache.</param>
    /// <param name="options">The cache's options.</param>
    /// <param name="scheduling">The scheduler's.</param>
    public ServedCache(LlamaServedModel model, OpenTiers tiers, KvCacheOptions options, KvSchedulerOptions scheduling)
    {
        (_model, _tiers) = (model, tiers);
        _cache = new KvCache(model.Model.Geometry(), options);
        try
        {
            Scheduler = new KvScheduler(_cache, model.Decoder, scheduling with { Tokenizer = model.Served.Tokenizer });
        }
        catch (ArgumentOutOfRangeException e)
        {
            _cache.Dispose();
            string option = e.ParamName == nameof(KvSchedulerOptions.DraftTokens) ? "--draft" : "--max-concurrency";
            throw new UsageException(option, e.Message.Split(" (Parameter", StringSplitOptions.None)[0].Replace("expected ", string.Empty, StringComparison.Ordinal), $"{e.ActualValue}");
        }
    }

    /// <summary>The model, with what turns text into its tokens.</summary>
    public KvServedModel Model => _model.Served;

    /// <summary>What serves it.</summary>
    public KvScheduler Scheduler { get; }

    /// <summary>Ends the scheduler, and writes to lower tiers what is not there yet.</summary>
    public void Dispose()
    {
        Scheduler.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _cache.BackUpAsync().GetAwaiter().GetResult();
        _cache.Dispose();
        _model.Dispose();
        _tiers.Dispose();
    }
}
