using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Metrics;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Serves a model in an ASP.NET host. Thread safety: as that of a host's builder.</summary>
public static class KvServingExtensions
{
    // Beyond the drain: the listener and the other services end too.
    private static readonly TimeSpan AfterDrain = TimeSpan.FromSeconds(5);

    // Seconds; those of a single token to those of a long prompt.
    private static readonly double[] Buckets = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60];

    /// <summary>Adds a served model to a host: <see cref="MapKvServing"/> maps its endpoints. When the host stops, answers that have begun are ended first.</summary>
    /// <param name="services">The host's services.</param>
    /// <param name="model">The model, with its tokenizer and chat template.</param>
    /// <param name="scheduler">What serves it; made with <see cref="KvSchedulerOptions.Tokenizer"/>, so that answers have texts. It is borrowed.</param>
    /// <param name="configure">Sets options. The default value is null: the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    public static IServiceCollection AddKvServing(this IServiceCollection services, KvServedModel model, KvScheduler scheduler, Action<KvServerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(scheduler);
        KvServerOptions options = new();
        configure?.Invoke(options);
        options.ThrowIfInvalid();
        services.AddSingleton(provider => new KvServer(model, scheduler, options, provider.GetRequiredService<ILogger<KvServer>>()));
        services.AddHostedService(provider => new KvServingDrain(
            provider.GetRequiredService<KvServer>(), provider.GetRequiredService<IHostApplicationLifetime>(), provider.GetRequiredService<ILogger<KvServer>>()));
        services.Configure<HostOptions>(host =>
            host.ShutdownTimeout = host.ShutdownTimeout > options.DrainTime + AfterDrain ? host.ShutdownTimeout : options.DrainTime + AfterDrain);
        if (options.Metrics)
        {
            services.AddOpenTelemetry().WithMetrics(metrics => metrics
                .AddMeter(KvDiagnostics.MeterName, KvServingDiagnostics.MeterName)
                .AddView(instrument => instrument.Unit == "s" && instrument.GetType().Name.StartsWith("Histogram", StringComparison.Ordinal) ? new ExplicitBucketHistogramConfiguration { Boundaries = Buckets } : null)
                .AddPrometheusExporter(exporter => exporter.ScrapeResponseCacheDurationMilliseconds = 0));
        }

        return services;
    }

    /// <summary>
    /// Maps <c>/v1/chat/completions</c>, <c>/v1/completions</c>, <c>/v1/models</c>, <c>/health</c>, and as the options have it <c>/metrics</c> and the live page at <c>/</c>.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <returns>The endpoints but <c>/metrics</c>, for what a host adds to all.</returns>
    public static IEndpointConventionBuilder MapKvServing(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        KvServer server = endpoints.ServiceProvider.GetRequiredService<KvServer>();
        Door door = server.Door;
        RouteGroupBuilder group = endpoints.MapGroup(string.Empty);
        Map(HttpMethods.Post, "/v1/chat/completions", door.Keyed(server.Generation.ChatAsync, isCounted: true));
        Map(HttpMethods.Post, "/v1/completions", door.Keyed(server.Generation.CompleteAsync, isCounted: true));
        Map(HttpMethods.Get, "/v1/models", door.Keyed((context, _) => server.ModelsAsync(context)));
        Map(HttpMethods.Get, "/v1/models/{**id}", door.Keyed((context, _) => server.ModelAsync(context)));
        Map(HttpMethods.Get, "/health", door.Open(server.HealthAsync));
        group.Map("/v1/{**path}", door.Keyed((_, _) => throw ApiError.Refused(StatusCodes.Status404NotFound, "there is no such path here", "not_found")));
        if (server.Options.LivePage)
        {
            Map(HttpMethods.Get, "/", door.Open(context => LivePage.WriteAsync(context, LivePage.Index)));
            Map(HttpMethods.Get, "/live/page.css", door.Open(context => LivePage.WriteAsync(context, LivePage.Style)));
            Map(HttpMethods.Get, "/live/page.js", door.Open(context => LivePage.WriteAsync(context, LivePage.Script)));
            Map(HttpMethods.Get, "/live/map.js", door.Open(context => LivePage.WriteAsync(context, LivePage.Map)));
            Map(HttpMethods.Get, "/live/icon.svg", door.Open(context => LivePage.WriteAsync(context, LivePage.Icon)));
            Map(HttpMethods.Get, "/live/events", door.Keyed(server.Live.EventsAsync));
            Map(HttpMethods.Post, "/live/budget", door.Keyed(server.Live.BudgetAsync));
        }

        if (server.Options.Metrics)
        {
            endpoints.MapPrometheusScrapingEndpoint();
        }

        return group;

        // Other methods get an error of the same form, where routing's own has no body.
        void Map(string method, string pattern, RequestDelegate handler)
        {
            group.MapMethods(pattern, [method], handler);
            group.Map(pattern, door.Open(context =>
            {
                context.Response.Headers.Allow = method;
                throw ApiError.Refused(StatusCodes.Status405MethodNotAllowed, $"expected {method}", "method_not_allowed");
            }));
        }
    }
}
