// One test at a time: some of them kill the server that the others use.
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace KvCacheGpu.Redis.Tests;

using System.Diagnostics;
using System.Globalization;
using StackExchange.Redis;

/// <summary>A server that a variable names, seen as another program would, and with a prefix that nobody else uses.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    // Generous, and still a limit: what must not wait is told by what came back, and a test that hangs must end.
    public static readonly TimeSpan Long = TimeSpan.FromSeconds(60);

    private readonly string _variable;

    private TestServer(string variable, ConnectionMultiplexer connection) => (_variable, Connection) = (variable, connection);

    public ConnectionMultiplexer Connection { get; }

    public string Address => Environment.GetEnvironmentVariable(_variable)!;

    /// <summary>Prefix of this test's keys.</summary>
    public string Prefix { get; } = $"test-{Guid.NewGuid():N}:";

    public IDatabase Database => Connection.GetDatabase();

    /// <summary>Why a test cannot run, or null.</summary>
    public static string? WhyNot(string variable) => string.IsNullOrEmpty(Environment.GetEnvironmentVariable(variable)) ? $"{variable} is not set (.ci/run sets it)" : null;

    public static async Task<TestServer> ConnectAsync(string variable)
    {
        ConfigurationOptions options = RedisAddress.Parse(Environment.GetEnvironmentVariable(variable)!);
        (options.AllowAdmin, options.AbortOnConnectFail) = (true, true);
        return new TestServer(variable, await ConnectionMultiplexer.ConnectAsync(options));
    }

    /// <summary>Patient options with this test's prefix: a slow machine is no slow server.</summary>
    public KvRedisTierOptions Options() => new() { KeyPrefix = Prefix, Deadline = TimeSpan.FromSeconds(20) };

    /// <summary>A tier that is connected.</summary>
    public async Task<KvRedisTier> TierAsync(KvRedisTierOptions? options = null)
    {
        KvRedisTier tier = new(Address, options ?? Options());
        Assert.NotNull(await tier.PingAsync(Long));
        return tier;
    }

    /// <summary>The process of each node.</summary>
    public async Task<int[]> ProcessesAsync()
    {
        List<int> ids = [];
        foreach (IServer server in Connection.GetServers())
        {
            string line = (await server.InfoRawAsync("server"))!.Split('\n').Single(text => text.StartsWith("process_id:", StringComparison.Ordinal));
            ids.Add(int.Parse(line.Split(':')[1], CultureInfo.InvariantCulture));
        }

        return [.. ids];
    }

    /// <summary>Kills a node with SIGKILL.</summary>
    public static void Kill(int process)
    {
        using Process server = Process.GetProcessById(process);
        server.Kill();
        server.WaitForExit();
    }

    /// <summary>Lets a node hang, or go on.</summary>
    public static void Signal(int process, string signal) => Run($"kill -{signal} {process}");

    /// <summary>Starts all nodes again, empty.</summary>
    public void Restart() => Run(Environment.GetEnvironmentVariable(_variable + "_RESTART")!);

    /// <summary>Tries until it works, for as long as a hung test may take.</summary>
    public static async Task UntilAsync(Func<Task<bool>> works, string what)
    {
        long began = Stopwatch.GetTimestamp();
        while (!await works())
        {
            Assert.True(Stopwatch.GetElapsedTime(began) < Long, $"never: {what}");
            await Task.Delay(10);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (IServer server in Connection.GetServers().Where(server => server.IsConnected))
        {
            await foreach (RedisKey key in server.KeysAsync(pattern: $"{Prefix}*"))
            {
                await Database.KeyDeleteAsync(key);
            }
        }

        await Connection.DisposeAsync();
    }

    private static void Run(string command)
    {
        using Process process = Process.Start("/bin/sh", ["-c", command]);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
