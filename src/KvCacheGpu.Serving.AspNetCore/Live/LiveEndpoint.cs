using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Sends the live page its pictures, and moves the cache's budget.</summary>
internal sealed class LiveEndpoint(KvServer server, ILogger<KvServer> logger)
{
    private readonly LiveReader _reader = new(server);

    /// <summary>Sends pictures until the client goes or the server stops: <c>/live/events?id=12&amp;choice=0&amp;mass=1</c>.</summary>
    public async Task EventsAsync(HttpContext context, Caller caller)
    {
        IQueryCollection query = context.Request.Query;
        (long Id, int Choice)? wanted = query.ContainsKey("id") ? (Number("id"), (int)Number("choice")) : null;
        bool withMass = query["mass"] == "1";
        EventStream stream = EventStream.Begin(context.Response);
        using PeriodicTimer timer = new(server.Options.LiveInterval);
        do
        {
            LiveSnapshot snapshot;
            try
            {
                snapshot = await _reader.ReadAsync(caller, wanted, withMass).ConfigureAwait(false);
            }
            catch (ObjectDisposedException)
            {
                // The scheduler has ended: this was the last picture.
                return;
            }
            catch (KvCacheException failure)
            {
                logger.RequestFailed(failure);
                return;
            }

            await stream.WriteAsync(snapshot, LiveJson.Default.LiveSnapshot, context.RequestAborted).ConfigureAwait(false);
        }
        while (!server.IsDraining && await timer.WaitForNextTickAsync(context.RequestAborted).ConfigureAwait(false));

        long Number(string name) => !query.TryGetValue(name, out StringValues text) ? 0
            : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) && number <= int.MaxValue ? number
            : throw ApiError.Invalid($"{name}: expected a whole number", name, "invalid_value");
    }

    /// <summary>Takes <c>{ "watermark": 0.5 }</c>: the part of the budget that plans bring pages down to.</summary>
    public async Task BudgetAsync(HttpContext context, Caller caller)
    {
        if (!caller.IsAdmin)
        {
            throw ApiError.Forbidden();
        }

        using JsonDocument body = await RequestBody.ReadAsync(context, server.Options).ConfigureAwait(false);
        Fields fields = new(body.RootElement);
        double watermark = fields.Number("watermark", 0, 1, isAbove: true) ?? throw fields.Missing("watermark", "a number above 0, at most 1");
        fields.ThrowIfMore();
        server.Scheduler.Cache.Watermark = watermark;
        context.Response.StatusCode = StatusCodes.Status204NoContent;
    }
}
