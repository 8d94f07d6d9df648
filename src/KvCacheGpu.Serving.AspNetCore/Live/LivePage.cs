using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>The live page's files, which lie in the assembly. They hold no data: what they show comes by <see cref="LiveEndpoint"/>.</summary>
internal static class LivePage
{
    /// <summary>The page.</summary>
    public static readonly (string Name, string Type) Index = ("index.html", "text/html; charset=utf-8");

    /// <summary>Its colours and sizes.</summary>
    public static readonly (string Name, string Type) Style = ("page.css", "text/css; charset=utf-8");

    /// <summary>Its program.</summary>
    public static readonly (string Name, string Type) Script = ("page.js", "text/javascript; charset=utf-8");

    /// <summary>The part of it that draws the map.</summary>
    public static readonly (string Name, string Type) Map = ("map.js", Script.Type);

    /// <summary>Its icon.</summary>
    public static readonly (string Name, string Type) Icon = ("icon.svg", "image/svg+xml");

    // Nothing but these files and this server; no frames, no inline code.
    private const string Policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// <summary>Writes one of the files.</summary>
    public static async Task WriteAsync(HttpContext context, (string Name, string Type) file)
    {
        context.Response.ContentType = file.Type;
        context.Response.Headers.ContentSecurityPolicy = Policy;
        context.Response.Headers.XContentTypeOptions = "nosniff";
        context.Response.Headers["Referrer-Policy"] = "no-referrer";
        context.Response.Headers.CacheControl = "no-cache";
        Stream stream = typeof(LivePage).Assembly.GetManifestResourceStream(file.Name)!;
        await using (stream.ConfigureAwait(false))
        {
            await stream.CopyToAsync(context.Response.Body, context.RequestAborted).ConfigureAwait(false);
        }
    }
}
