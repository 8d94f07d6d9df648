using System.Collections.Concurrent;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Hosts with small caches, and steps over their sequences.</summary>
internal static class Hosts
{
    public static readonly KvGeometry Tiny = new(layers: 2, queryHeads: 2, kvHeads: 1, keyWidth: 8, pageTokens: 4);

    /// <summary>A host that is not started yet.</summary>
    public static IHost Make(Action<IServiceCollection> add, LogLines? log = null)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Logging.SetMinimumLevel(LogLevel.Trace);
        if (log is not null)
        {
            builder.Services.AddSingleton<ILoggerProvider>(log);
        }

        add(builder.Services);
        return builder.Build();
    }

    public static IConfigurationRoot Section(params (string Name, string Value)[] values) =>
        new ConfigurationBuilder().AddInMemoryCollection(values.Select(one => KeyValuePair.Create(one.Name, (string?)one.Value))).Build();

    public static void Small(KvCacheHostOptions options)
    {
        options.Geometry = Tiny;
        (options.Cache.Device, options.Cache.MaxTokens, options.Cache.MaxSequences, options.Cache.ExactRollbackTokens) = ("cpu", 256, 4, 4);
    }

    /// <summary>Appends tokens whose keys and values are their ids.</summary>
    public static void Feed(this KvSequence sequence, params int[] ids)
    {
        KvGeometry g = sequence.Cache.Geometry;
        float[] rows = [.. ids.SelectMany(id => Enumerable.Repeat((float)id, g.KvHeads * g.KeyWidth))];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, rows, rows);
        }

        step.Commit();
    }

    /// <summary>The first element of each token's key.</summary>
    public static int[] Content(this KvSequence sequence)
    {
        KvGeometry g = sequence.Cache.Geometry;
        float[] keys = new float[sequence.Length * g.KvHeads * g.KeyWidth];
        sequence.ReadLayer(1, keys, default);
        return [.. Enumerable.Range(0, sequence.Length).Select(token => (int)keys[token * g.KvHeads * g.KeyWidth])];
    }
}

/// <summary>Keeps what was logged.</summary>
internal sealed class LogLines : ILoggerProvider, ILogger
{
    private readonly ConcurrentQueue<(int Id, LogLevel Level, string Text)> _lines = [];

    public (int Id, LogLevel Level, string Text)[] All => [.. _lines];

    public string[] Of(int id) => [.. _lines.Where(line => line.Id == id).Select(line => line.Text)];

    public ILogger CreateLogger(string categoryName) => categoryName == Log.Category ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    void ILogger.Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        _lines.Enqueue((eventId.Id, logLevel, formatter(state, exception)));

    public void Dispose()
    {
    }
}

/// <summary>A clock that stands still until it is moved.</summary>
internal sealed class HandClock : TimeProvider
{
    private long _now;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Interlocked.Read(ref _now);

    public void Move(TimeSpan by) => Interlocked.Add(ref _now, by.Ticks);
}
