using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting;

/// <summary>Makes a cache before the host starts, so that what cannot be made fails there, sends idle sessions below while it runs, and saves sessions when it stops.</summary>
internal sealed class CacheLifetime(IServiceProvider services, string name) : IHostedLifecycleService, IDisposable
{
    private readonly CancellationTokenSource _ends = new();
    private Task _sweeping = Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartingAsync(CancellationToken cancellationToken)
    {
        _ = services.GetRequiredKeyedService<KvCache>(name);
        SessionKeeper sessions = services.GetRequiredKeyedService<SessionKeeper>(name);
        _sweeping = Task.Run(() => sessions.SweepUntilAsync(_ends.Token), CancellationToken.None);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>After the host's own services have stopped: their leases are back.</summary>
    public async Task StoppedAsync(CancellationToken cancellationToken)
    {
        await _ends.CancelAsync().ConfigureAwait(false);
        await _sweeping.ConfigureAwait(false);
        await services.GetRequiredKeyedService<SessionKeeper>(name).CloseAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Ends the sweeping too of a host that never stopped.</summary>
    public void Dispose()
    {
        _ends.Cancel();
        _ends.Dispose();
    }
}
