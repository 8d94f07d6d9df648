using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace KvCacheGpu.Hosting;

/// <summary>The messages of hosted caches. Tenants and ids of sessions are in messages of level Debug alone.</summary>
internal static partial class Log
{
    /// <summary>The category of all of them.</summary>
    public const string Category = "KvCacheGpu.Hosting";

    /// <summary>The host's log; none where it has none.</summary>
    public static ILogger Of(IServiceProvider services) => (services.GetService<ILoggerFactory>() ?? NullLoggerFactory.Instance).CreateLogger(Category);

    [LoggerMessage(1, LogLevel.Information, "Cache {Cache} is on {Device} with {Budget} bytes ({Kernels})")]
    public static partial void Made(ILogger log, string cache, string device, long budget, string kernels);

    [LoggerMessage(2, LogLevel.Information, "Cache {Cache} follows its changed options: watermark and quotas; all others take effect when it is made again")]
    public static partial void Changed(ILogger log, string cache);

    [LoggerMessage(3, LogLevel.Error, "Cache {Cache} keeps its options, since the changed ones are refused")]
    public static partial void ChangeRefused(ILogger log, Exception error, string cache);

    [LoggerMessage(4, LogLevel.Warning, "Cache {Cache}: sequence {Sequence} of {Tokens} tokens was never disposed")]
    public static partial void Forgotten(ILogger log, string cache, string? sequence, int tokens);

    [LoggerMessage(5, LogLevel.Debug, "Cache {Cache}: session {Session} of tenant {Tenant} was loaded, {Tokens} tokens")]
    public static partial void Loaded(ILogger log, string cache, string session, string? tenant, int tokens);

    [LoggerMessage(6, LogLevel.Debug, "Cache {Cache}: session {Session} of tenant {Tenant} was saved, {Tokens} tokens")]
    public static partial void Saved(ILogger log, string cache, string session, string? tenant, int tokens);

    [LoggerMessage(7, LogLevel.Debug, "Cache {Cache}: session {Session} of tenant {Tenant} left the device, {Bytes} bytes")]
    public static partial void SwappedOut(ILogger log, string cache, string session, string? tenant, long bytes);

    [LoggerMessage(8, LogLevel.Warning, "Cache {Cache} has no room for a session: {Resource} is short")]
    public static partial void Refused(ILogger log, Exception error, string cache, KvResource resource);

    [LoggerMessage(9, LogLevel.Error, "Cache {Cache}: a session of {Tokens} tokens could not be saved")]
    public static partial void SaveFailed(ILogger log, Exception error, string cache, int tokens);

    [LoggerMessage(11, LogLevel.Error, "Cache {Cache}: idle sessions could not leave the device")]
    public static partial void SweepFailed(ILogger log, Exception error, string cache);

    [LoggerMessage(10, LogLevel.Information, "Cache {Cache} has closed its sessions: {Saved} saved, {Lost} not")]
    public static partial void Closed(ILogger log, string cache, int saved, int lost);
}
