using System.Buffers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Writes server-sent events.</summary>
internal sealed class EventStream
{
    private readonly HttpResponse _response;

    private EventStream(HttpResponse response) => _response = response;

    /// <summary>Begins the answer: from here on the status cannot change.</summary>
    public static EventStream Begin(HttpResponse response)
    {
        response.StatusCode = StatusCodes.Status200OK;
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-store";

        // Proxies that collect answers would hold tokens back.
        response.Headers["X-Accel-Buffering"] = "no";
        return new EventStream(response);
    }

    /// <summary>Sends one event.</summary>
    public async Task WriteAsync<T>(T data, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        _response.BodyWriter.Write("data: "u8);
        using (Utf8JsonWriter writer = new(_response.BodyWriter))
        {
            JsonSerializer.Serialize(writer, data, type);
        }

        _response.BodyWriter.Write("\n\n"u8);
        await _response.BodyWriter.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Sends the end, as OpenAI's clients expect it.</summary>
    public async Task EndAsync(CancellationToken cancellationToken)
    {
        _response.BodyWriter.Write("data: [DONE]\n\n"u8);
        await _response.BodyWriter.FlushAsync(cancellationToken).ConfigureAwait(false);
    }
}
