using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>What the server logs. Keys, prompts and answers are never among it.</summary>
internal static partial class ServerLog
{
    [LoggerMessage(1, LogLevel.Error, "An answer failed")]
    public static partial void AnswerFailed(this ILogger<KvServer> logger, Exception failure);

    [LoggerMessage(2, LogLevel.Error, "A request failed")]
    public static partial void RequestFailed(this ILogger<KvServer> logger, Exception failure);

    [LoggerMessage(3, LogLevel.Information, "The server is about to stop: {Requests} requests have {Seconds} seconds to end")]
    public static partial void Draining(this ILogger<KvServer> logger, int requests, double seconds);
}
