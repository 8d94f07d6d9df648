using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Hosts whose sessions lie in a folder of the test's, with a clock that it moves.</summary>
public abstract class SessionHosts : IDisposable
{
    private protected HandClock Clock { get; } = new();

    private protected LogLines Lines { get; } = new();

    protected string Folder { get; } = Directory.CreateTempSubdirectory("kvcache-sessions-").FullName;

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected static IKvSessions Of(IHost host) => host.Services.GetRequiredService<IKvSessions>();

    protected static async Task FillAsync(IKvSessions sessions, string id, params int[] ids)
    {
        await using KvSessionLease lease = await sessions.RentAsync(null, id);
        lease.Sequence.Feed(ids);
    }

    protected static Task SweepAsync(IHost host) => host.Services.GetRequiredKeyedService<SessionKeeper>(string.Empty).SweepAsync(TimeSpan.FromMinutes(5), default);

    protected async Task<IHost> StartAsync(Action<KvCacheHostOptions>? change = null, TimeProvider? clock = null)
    {
        IHost host = Hosts.Make(
            services =>
            {
                services.AddSingleton(clock ?? Clock);
                services.AddKvCache(options =>
                {
                    Hosts.Small(options);
                    change?.Invoke(options);
                });
            },
            Lines);
        await host.StartAsync();
        return host;
    }
}
