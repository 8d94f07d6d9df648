using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>A model that is served: what its endpoints share. It lives in a host's services.</summary>
/// <remarks>Thread safety: members may be called from any thread.</remarks>
public sealed class KvServer : IDisposable
{
    private volatile bool _isDraining;

    internal KvServer(KvServedModel model, KvScheduler scheduler, KvServerOptions options, ILogger<KvServer> logger)
    {
        (Model, Scheduler, Options) = (model, scheduler, options);
        Door = new Door(options, logger);
        Generation = new GenerationEndpoint(scheduler, model, options, logger);
        Live = new LiveEndpoint(this, logger);
    }

    /// <summary>The model.</summary>
    public KvServedModel Model { get; }

    /// <summary>What serves it.</summary>
    public KvScheduler Scheduler { get; }

    /// <summary>True once the server is told to stop: it goes on with what it has begun, and takes no more.</summary>
    public bool IsDraining
    {
        get => _isDraining;
        internal set => _isDraining = value;
    }

    internal KvServerOptions Options { get; }

    internal Door Door { get; }

    internal GenerationEndpoint Generation { get; }

    internal LiveEndpoint Live { get; }

    internal long Created { get; } = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    /// <summary>Frees what it counts requests with.</summary>
    public void Dispose() => Door.Dispose();

    internal Task ModelsAsync(HttpContext context) => JsonAnswer.WriteAsync(context, new ModelList("list", [Entry()]), WireJson.Default.ModelList);

    internal Task ModelAsync(HttpContext context) =>
        context.Request.RouteValues["id"] as string == Model.Name ? JsonAnswer.WriteAsync(context, Entry(), WireJson.Default.ModelEntry) : throw ApiError.NoModel(Model.Name);

    internal Task HealthAsync(HttpContext context)
    {
        string? error = null;
        try
        {
            Scheduler.Cache.CheckDevice();
        }
        catch (Exception failure)
        {
            // A driver's own exceptions may tell paths.
            error = failure is KvCacheException known ? known.Code : failure.GetType().Name;
        }

        HealthBody body = new(
            error is not null ? "failed" : IsDraining ? "draining" : "ok", Model.Name, Scheduler.Cache.DeviceName, Scheduler.Cache.TierName, Scheduler.Waiting, error);
        return JsonAnswer.WriteAsync(context, body, WireJson.Default.HealthBody, body.Status == "ok" ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable);
    }

    private ModelEntry Entry() => new(Model.Name, "model", Created, "kvcachegpu", Scheduler.MaxTokens);
}
