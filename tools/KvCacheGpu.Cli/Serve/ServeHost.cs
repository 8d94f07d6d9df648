using System.Net.Sockets;
using KvCacheGpu.Serving.AspNetCore;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Cli;

/// <summary>The web server of <c>kvcache serve</c>.</summary>
internal sealed class ServeHost(ServedCache served, ServeAddresses addresses, Terminal terminal)
{
    /// <summary>Serves until the process is told to stop.</summary>
    /// <param name="configure">Sets the server's options.</param>
    /// <exception cref="IOException">An address cannot be listened on.</exception>
    public void Run(Action<KvServerOptions> configure)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = [] });
        builder.WebHost.UseUrls([.. addresses.Urls]);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.AddServerHeader = false);

        // Results go to stdout, remarks to stderr.
        builder.Logging.ClearProviders();
        builder.Logging.AddSimpleConsole(console => console.SingleLine = true);
        builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(console => console.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddFilter("KvCacheGpu", LogLevel.Information);
        if (addresses.AreLoopback)
        {
            // A page of elsewhere, opened in a browser here, could name this machine by a host name of its own.
            builder.Services.AddHostFiltering(filter => filter.AllowedHosts = ["localhost", "127.0.0.1", "[::1]"]);
        }

        builder.Services.AddKvServing(served.Model, served.Scheduler, configure);
        using WebApplication app = builder.Build();
        if (addresses.AreLoopback)
        {
            app.UseHostFiltering();
        }

        app.MapKvServing();
        app.Lifetime.ApplicationStarted.Register(() =>
        {
            foreach (string url in app.Urls)
            {
                terminal.Output.WriteLine($"{served.Model.Name} is served at {url}: POST /v1/chat/completions and /v1/completions, GET /health and /metrics, the live page at {url}/");
            }

            terminal.Output.Flush();
        });
        try
        {
            app.Run();
        }
        catch (SocketException error)
        {
            // As where an address is in use, which is an IOException already.
            throw new IOException($"--urls: cannot listen on {addresses}: {error.Message}", error);
        }
    }
}
