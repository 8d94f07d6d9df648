using System.Globalization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Writes whole answers.</summary>
internal static class JsonAnswer
{
    /// <summary>Writes a document.</summary>
    public static Task WriteAsync<T>(HttpContext context, T body, JsonTypeInfo<T> type, int status = StatusCodes.Status200OK)
    {
        context.Response.StatusCode = status;
        context.Response.Headers.CacheControl = "no-store";
        return context.Response.WriteAsJsonAsync(body, type, "application/json", context.RequestAborted);
    }

    /// <summary>Writes an error; does nothing once an answer has begun, which then ends as it is.</summary>
    public static async Task WriteAsync(HttpContext context, ApiError error)
    {
        if (context.Response.HasStarted)
        {
            context.Abort();
            return;
        }

        context.Response.Clear();
        if (error.RetryAfter is { } later)
        {
            context.Response.Headers.RetryAfter = Math.Max(1, Math.Ceiling(later.TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        }

        if (error.Status == StatusCodes.Status401Unauthorized)
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
        }

        await WriteAsync(context, error.Body, WireJson.Default.ErrorBody, error.Status).ConfigureAwait(false);
    }
}
