using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Reads the JSON body of a request, within limits.</summary>
internal static class RequestBody
{
    private const int MostDepth = 32;
    private const int Piece = 16 << 10;

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = MostDepth };

    /// <summary>Reads it.</summary>
    /// <param name="context">The request.</param>
    /// <param name="options">Limits.</param>
    /// <exception cref="ApiError">It is too large, too slow, or no JSON.</exception>
    /// <exception cref="OperationCanceledException">The client has gone.</exception>
    public static async Task<JsonDocument> ReadAsync(HttpContext context, KvServerOptions options)
    {
        HttpRequest request = context.Request;
        if (!request.HasJsonContentType())
        {
            throw ApiError.Refused(StatusCodes.Status415UnsupportedMediaType, "expected Content-Type: application/json", "unsupported_media_type");
        }

        if (request.Headers.ContentEncoding.Count > 0)
        {
            throw ApiError.Refused(StatusCodes.Status415UnsupportedMediaType, "expected a body without Content-Encoding", "unsupported_content_encoding");
        }

        if (request.ContentLength > options.MaxBodyBytes)
        {
            throw TooLarge(options);
        }

        // This server's own limit holds, and its own error is told.
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = null;
        }

        byte[] body = await ReadBytesAsync(context, options).ConfigureAwait(false);
        try
        {
            return JsonDocument.Parse(body, Strict);
        }
        catch (JsonException error)
        {
            // The reader's message may quote the text.
            throw ApiError.Invalid($"body: expected JSON of one object, no name twice, at most {MostDepth} deep; wrong at line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}", null, "invalid_json");
        }
    }

    private static async Task<byte[]> ReadBytesAsync(HttpContext context, KvServerOptions options)
    {
        using CancellationTokenSource slow = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        slow.CancelAfter(options.BodyTimeout);
        ArrayBufferWriter<byte> body = new();
        try
        {
            while (true)
            {
                int count = await context.Request.Body.ReadAsync(body.GetMemory(Piece), slow.Token).ConfigureAwait(false);
                body.Advance(count);
                if (count == 0)
                {
                    return body.WrittenSpan.ToArray();
                }

                if (body.WrittenCount > options.MaxBodyBytes)
                {
                    throw TooLarge(options);
                }
            }
        }
        catch (OperationCanceledException) when (!context.RequestAborted.IsCancellationRequested)
        {
            throw ApiError.Refused(StatusCodes.Status408RequestTimeout, $"expected the body within {options.BodyTimeout.TotalSeconds} seconds", "body_timeout");
        }
        catch (BadHttpRequestException error)
        {
            throw ApiError.Refused(error.StatusCode, "the request could not be read", "bad_request");
        }
    }

    private static ApiError TooLarge(KvServerOptions options) =>
        ApiError.Refused(StatusCodes.Status413PayloadTooLarge, $"expected a body of at most {options.MaxBodyBytes} bytes", "body_too_large");
}
