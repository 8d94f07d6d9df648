using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Ends the server's answers when the host stops: before the listener closes, so that clients that come meanwhile are told.</summary>
internal sealed class KvServingDrain(KvServer server, IHostApplicationLifetime lifetime, ILogger<KvServer> logger) : IHostedLifecycleService
{
    private CancellationTokenRegistration _stopping;

    public Task StartingAsync(CancellationToken cancellationToken)
    {
        _stopping = lifetime.ApplicationStopping.Register(() => server.IsDraining = true);
        return Task.CompletedTask;
    }

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        server.IsDraining = true;
        logger.Draining(server.Scheduler.Waiting, server.Options.DrainTime.TotalSeconds);
        await server.Scheduler.DrainAsync(server.Options.DrainTime).ConfigureAwait(false);
    }

    public Task StoppedAsync(CancellationToken cancellationToken)
    {
        _stopping.Dispose();
        return Task.CompletedTask;
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
