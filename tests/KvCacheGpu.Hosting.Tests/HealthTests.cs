using System.Globalization;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>The health of a cache, as a host's health checks tell it.</summary>
public sealed class HealthTests
{
    [Fact]
    public async Task A_cache_is_healthy_then_degraded_when_its_memory_is_used_then_unhealthy_when_it_is_gone()
    {
        using IHost host = Hosts.Make(services =>
        {
            services.AddKvCache("chat", options =>
            {
                Hosts.Small(options);
                options.Cache.MemoryBudgetBytes = 80_000;
                options.DegradedAbove = 0.9;
            }).AddHealthCheck(tags: ["ready"]);
            services.AddKvCache(Hosts.Small);
            services.AddHealthChecks().AddKvCacheHealthCheck();
        });
        await host.StartAsync();
        KvCache cache = host.Services.GetRequiredKeyedService<KvCache>("chat");
        using KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1, 2, 3);
        HealthReport report = await CheckAsync(host);
        Assert.Equal(["kvcache", "kvcache-chat"], report.Entries.Keys.Order(StringComparer.Ordinal));
        HealthReportEntry chat = report.Entries["kvcache-chat"];
        Assert.Equal((HealthStatus.Healthy, "ready"), (chat.Status, Assert.Single(chat.Tags)));
        Assert.Equal(
            ("cpu", cache.TierName, cache.AllocatedBytes, 0L, 80_000L, cache.FreeTokens, 1, 0L),
            ((string)chat.Data["device"], (string)chat.Data["kernels"], (long)chat.Data["used_bytes"], (long)chat.Data["cached_bytes"], (long)chat.Data["budget_bytes"],
                (int)chat.Data["free_tokens"], (int)chat.Data["sequences"], (long)chat.Data["swapped_bytes"]));
        Assert.Equal(Part(cache), (double)chat.Data["used_part"]);
        Assert.InRange(Part(cache), 0, 0.9);

        while (Part(cache) <= 0.9)
        {
            sequence.Feed(4, 5, 6, 7);
        }

        chat = (await CheckAsync(host)).Entries["kvcache-chat"];
        Assert.Equal(HealthStatus.Degraded, chat.Status);
        Assert.Equal(string.Create(CultureInfo.InvariantCulture, $"{Part(cache):p0} of the room for pages is used"), chat.Description);

        cache.Dispose();
        report = await CheckAsync(host);
        Assert.Equal((HealthStatus.Unhealthy, HealthStatus.Healthy), (report.Entries["kvcache-chat"].Status, report.Entries["kvcache"].Status));
        Assert.IsType<ObjectDisposedException>(report.Entries["kvcache-chat"].Exception);
    }

    [Fact]
    public async Task A_tier_that_is_left_alone_degrades()
    {
        var tier = new SwitchedTier();
        using IHost host = Hosts.Make(services => services.AddKvCache(options =>
        {
            Hosts.Small(options);
            (options.Cache.PrefixReuse, options.Cache.ModelFingerprint) = (true, "toy");
        }).AddTier(_ => tier).AddHealthCheck());
        await host.StartAsync();
        Assert.Equal(HealthStatus.Healthy, (await CheckAsync(host)).Status);
        tier.IsOut = true;
        await tier.ReadAsync(new BlockHash[1], new byte[8]);
        HealthReportEntry entry = (await CheckAsync(host)).Entries["kvcache"];
        Assert.Equal((HealthStatus.Degraded, "left alone since they failed: switched", 1L), (entry.Status, entry.Description, (long)entry.Data["tier_switched_errors"]));
    }

    [Fact]
    public async Task A_remote_tiers_open_breaker_is_one()
    {
        await using var tier = new KvRedisTier("redis://127.0.0.1:1", new KvRedisTierOptions { BreakAfter = 1, BreakFor = TimeSpan.FromMinutes(10) });
        Assert.True(tier.IsAvailable);
        await tier.ReadAsync(new BlockHash[1], new byte[8]);
        Assert.False(tier.IsAvailable);
    }

    [Fact]
    public async Task A_device_that_is_gone_is_unhealthy()
    {
        using Context context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
        Accelerator accelerator = context.CreateCPUAccelerator(0);
        using var cache = new KvCache(Hosts.Tiny, new KvCacheOptions { MaxTokens = 64, MaxSequences = 1 }, accelerator);
        var check = new KvCacheHealthCheck(cache);
        Assert.Equal(HealthStatus.Healthy, (await check.CheckHealthAsync(new HealthCheckContext())).Status);
        accelerator.Dispose();
        HealthCheckResult gone = await check.CheckHealthAsync(new HealthCheckContext());
        Assert.Equal((HealthStatus.Unhealthy, "ilgpu-cpu"), (gone.Status, (string)gone.Data["device"]));
        Assert.NotNull(gone.Exception);
    }

    private static double Part(KvCache cache) => Math.Clamp(1 - ((double)(cache.BudgetBytes - cache.AllocatedBytes + cache.CachedBytes) / cache.ReservedBytes), 0, 1);

    private static Task<HealthReport> CheckAsync(IHost host) => host.Services.GetRequiredService<HealthCheckService>().CheckHealthAsync();

    private sealed class SwitchedTier : KvTier
    {
        public bool IsOut { get; set; }

        public override string Name => "switched";

        public override long? BytesInUse => 0;

        public override long? BytesLimit => null;

        public override bool IsAvailable => !IsOut;

        protected override ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken) =>
            IsOut ? throw new IOException("out") : ValueTask.FromResult(0);

        protected override ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken) => ValueTask.FromResult(0);
    }
}
