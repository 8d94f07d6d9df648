using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Caches as services of a host.</summary>
public sealed class ServicesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-hosting-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Caches_are_singletons_by_name_and_one_without()
    {
        var log = new LogLines();
        using IHost host = Hosts.Make(
            services =>
            {
                services.AddKvCache(Hosts.Small);
                services.AddKvCache("chat", options =>
                {
                    Hosts.Small(options);
                    options.Cache.MaxTokens = 128;
                });
            },
            log);
        await host.StartAsync();
        KvCache one = host.Services.GetRequiredService<KvCache>(), chat = host.Services.GetRequiredKeyedService<KvCache>("chat");
        Assert.Same(one, host.Services.GetRequiredService<KvCache>());
        Assert.Same(chat, host.Services.GetRequiredKeyedService<KvCache>("chat"));
        Assert.Equal((256, null, 128, "chat"), (one.Options.MaxTokens, one.Options.Name, chat.Options.MaxTokens, chat.Options.Name));
        Assert.NotSame(host.Services.GetRequiredService<IKvSessions>(), host.Services.GetRequiredKeyedService<IKvSessions>("chat"));
        Assert.Equal([$"Cache default is on cpu with {one.BudgetBytes} bytes ({one.TierName})", $"Cache chat is on cpu with {chat.BudgetBytes} bytes ({chat.TierName})"], log.Of(1));
        await host.StopAsync();
        host.Dispose();
        Assert.Throws<ObjectDisposedException>(() => one.CreateSequence());
        Assert.Throws<ObjectDisposedException>(() => chat.CreateSequence());
    }

    [Fact]
    public void A_name_is_added_once()
    {
        var services = new ServiceCollection();
        services.AddKvCache("chat", Hosts.Small);
        Assert.Contains("'chat' twice", Assert.Throws<ArgumentException>(() => services.AddKvCache("chat", Hosts.Small)).Message, StringComparison.Ordinal);
        services.AddKvCache(Hosts.Small);
        Assert.Contains("without a name twice", Assert.Throws<ArgumentException>(() => services.AddKvCache(Hosts.Small)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => services.AddKvCache("", Hosts.Small));
    }

    [Theory]
    [InlineData("MaxSequences", "0", "E003: MaxSequences: expected at least 1, got 0")]
    [InlineData("ValueFormat", "v4", "E003: KeyFormat, ValueFormat: expected")]
    [InlineData("DegradedAbove", "1.5", "E003: DegradedAbove: expected above 0, at most 1, got 1.5")]
    [InlineData("Sessions:IdleAfter", "-00:00:01", "E003: Sessions.IdleAfter: expected above 0, got -00:00:01")]
    [InlineData("Tiers:0:Bytes", "0", "E003: Tiers: expected at least 1 byte each, got fewer")]
    [InlineData("Tiers:0:Bytes", "100", "E003: Tiers: expected PrefixReuse")]
    [InlineData("Offload:BudgetBytes", "100", "E003: Offload: expected a policy that lets pages go, got none")]
    [InlineData("Watermark", "NaN", "E003: Watermark: expected")]
    [InlineData("RecomputeTokensPerSecond", "NaN", "E003: RecomputeTokensPerSecond: expected")]
    public async Task What_does_not_fit_fails_the_start_with_our_error(string name, string value, string expected)
    {
        using IHost host = Hosts.Make(services => services.AddKvCache("chat", Hosts.Section((name, value)), options => options.Geometry = Hosts.Tiny));
        OptionsValidationException error = await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync());
        Assert.StartsWith($"cache 'chat': {expected}", Assert.Single(error.Failures), StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_only_the_cache_finds_fails_the_start_too()
    {
        using IHost none = Hosts.Make(services => services.AddKvCache(options => options.Cache.MaxTokens = 10));
        Assert.Equal("E003: Geometry: expected the model's shape, got none", Assert.Single((await Assert.ThrowsAsync<OptionsValidationException>(() => none.StartAsync())).Failures));
        using IHost small = Hosts.Make(services => services.AddKvCache(Hosts.Section(("MemoryBudgetBytes", "1000")), Hosts.Small));
        Assert.Contains("MemoryBudgetBytes", (await Assert.ThrowsAsync<KvConfigurationException>(() => small.StartAsync())).Setting, StringComparison.Ordinal);
        using IHost unread = Hosts.Make(services => services.AddKvCache(Hosts.Section(("MaxToken", "1000")), Hosts.Small));
        Assert.Equal("MaxToken", (await Assert.ThrowsAsync<KvConfigurationException>(() => unread.StartAsync())).Setting);
    }

    [Theory]
    [InlineData("LayerFormats:00", "i8/i8", "LayerFormats:0")]
    [InlineData("Sessions:IdleAfter", "300", "Sessions:IdleAfter")]
    [InlineData("Sessions:IdleAfter", "24:00:00", "Sessions:IdleAfter")]
    public async Task What_cannot_be_read_fails_the_start_and_names_the_value(string name, string value, string setting)
    {
        using IHost host = Hosts.Make(services => services.AddKvCache(Hosts.Section((name, value), ("LayerFormats:0", "i8/i8")), Hosts.Small));
        Assert.StartsWith(setting, (await Assert.ThrowsAsync<KvConfigurationException>(() => host.StartAsync())).Setting, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Code_that_fails_when_the_configuration_changes_does_not_fail_who_watches_it()
    {
        var log = new LogLines();
        bool fails = false;
        IConfigurationRoot section = Hosts.Section(("Watermark", "0.5"));
        using IHost host = Hosts.Make(
            services => services.AddKvCache(section, options =>
            {
                Hosts.Small(options);
                _ = fails ? throw new InvalidOperationException() : true;
            }),
            log);
        await host.StartAsync();
        fails = true;
        Set(section, ("Watermark", "0.25"));
        Assert.Equal((0.5, 1), (host.Services.GetRequiredService<KvCache>().Watermark, log.Of(3).Length));
        await host.StopAsync();
    }

    [Fact]
    public async Task Services_that_are_built_twice_give_two_caches()
    {
        var services = new ServiceCollection();
        services.AddKvCache(Hosts.Section(("Watermark", "0.5")), Hosts.Small);
        await using (ServiceProvider first = services.BuildServiceProvider())
        {
            _ = first.GetRequiredService<KvCache>();
        }

        await using ServiceProvider second = services.BuildServiceProvider();
        Assert.Equal(0.5, second.GetRequiredService<KvCache>().Watermark);
    }

    [Fact]
    public async Task Tiers_are_opened_with_the_cache_and_disposed_after_it()
    {
        string disk = Path.Combine(_folder, "tier");
        using IHost host = Hosts.Make(services => services.AddKvCache(
            Hosts.Section(("Tiers:0:Bytes", "1000000"), ("Tiers:1:Directory", disk), ("Tiers:1:Bytes", "2000000"), ("PrefixReuse", "true"), ("ModelFingerprint", "toy")), Hosts.Small)
            .AddTier(_ => new KvRedisTier("redis://127.0.0.1:1")));
        await host.StartAsync();
        KvCache cache = host.Services.GetRequiredService<KvCache>();
        Assert.Equal(["redis", "host", "disk"], cache.Options.Tiers.Select(tier => tier.Name));
        Assert.Equal([null, 1000000L, 2000000L], cache.Options.Tiers.Select(tier => tier.BytesLimit));

        // Locked while it is open.
        Assert.Throws<KvStoreBusyException>(() => new KvDiskTier(disk, 1000));
        await host.StopAsync();
        host.Dispose();
        new KvDiskTier(disk, 2000000).Dispose();
    }

    [Fact]
    public async Task A_cache_that_cannot_be_made_leaves_its_tiers_closed()
    {
        string disk = Path.Combine(_folder, "tier");
        using IHost host = Hosts.Make(services => services.AddKvCache(
            Hosts.Section(("Tiers:0:Directory", disk), ("Tiers:0:Bytes", "2000000"), ("PrefixReuse", "true"), ("ModelFingerprint", "toy"), ("MemoryBudgetBytes", "1000")), Hosts.Small));
        await Assert.ThrowsAsync<KvConfigurationException>(() => host.StartAsync());
        new KvDiskTier(disk, 2000000).Dispose();
    }

    [Fact]
    public async Task Watermark_and_quotas_follow_the_configuration_and_an_error_in_it_changes_nothing()
    {
        var log = new LogLines();
        IConfigurationRoot section = Hosts.Section(("Watermark", "0.5"), ("TenantQuotas:acme:Tokens", "10"));
        using IHost host = Hosts.Make(services => services.AddKvCache("chat", section, Hosts.Small), log);
        await host.StartAsync();
        KvCache cache = host.Services.GetRequiredKeyedService<KvCache>("chat");
        IOptionsMonitor<KvCacheHostOptions> monitor = host.Services.GetRequiredService<IOptionsMonitor<KvCacheHostOptions>>();
        Assert.Equal((0.5, false), (cache.Watermark, cache.CanHold(11, "acme")));

        Set(section, ("Watermark", "0.25"), ("TenantQuotas:acme:Tokens", "20"), ("TenantQuotas:b:Tokens", "5"));
        Assert.Equal((0.25, true, false), (cache.Watermark, cache.CanHold(11, "acme"), cache.CanHold(6, "b")));
        Assert.Equal((0.25, 1), (monitor.Get("chat").Cache.Watermark, log.Of(2).Length));

        Set(section, ("Watermark", "2"));
        Assert.Equal((0.25, 0.25, 1), (cache.Watermark, monitor.Get("chat").Cache.Watermark, log.Of(3).Length));
        Set(section, ("Watermark", "half"));
        Assert.Equal((0.25, 2, 1), (cache.Watermark, log.Of(3).Length, log.Of(2).Length));

        Set(section, ("Watermark", "0.75"), ("TenantQuotas:acme:Tokens", null), ("TenantQuotas:acme", null));
        Assert.Equal((0.75, true, false), (cache.Watermark, cache.CanHold(200, "acme"), cache.CanHold(6, "b")));
        await host.StopAsync();
    }

    [Fact]
    public async Task A_forgotten_sequence_is_logged()
    {
        var log = new LogLines();
        using IHost host = Hosts.Make(services => services.AddKvCache(Hosts.Small), log);
        await host.StartAsync();
        KvCache cache = host.Services.GetRequiredService<KvCache>();
        Forget(cache);
        for (int i = 0; i < 50 && cache.ForgottenSequences == 0; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        cache.CreateSequence().Dispose();
        Assert.Equal(["Cache default: sequence lost of 3 tokens was never disposed"], log.Of(4));
        Assert.Equal(LogLevel.Warning, log.All.Single(line => line.Id == 4).Level);
    }

    private static void Set(IConfigurationRoot section, params (string Name, string? Value)[] values)
    {
        foreach ((string name, string? value) in values)
        {
            section[name] = value;
        }

        section.Reload();
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static void Forget(KvCache cache)
    {
        KvSequence sequence = cache.CreateSequence();
        sequence.Name = "lost";
        sequence.Feed(1, 2, 3);
    }
}
