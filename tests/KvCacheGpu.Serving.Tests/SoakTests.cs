using System.Globalization;

namespace KvCacheGpu.Serving.Tests;

/// <summary>Tests that measure the process's memory, in which no other test may be at work.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Memory over many requests.</summary>
[Collection(nameof(Alone))]
public class SoakTests
{
    /// <summary>2,000 requests; KVCACHE_SOAK_REQUESTS names another number.</summary>
    [Fact]
    public async Task Many_requests_leave_nothing_behind()
    {
        int requests = int.Parse(Environment.GetEnvironmentVariable("KVCACHE_SOAK_REQUESTS") ?? "2000", CultureInfo.InvariantCulture);
        using KvCache cache = ToyModel.NewCache(1500, change: options => options.PrefixReuse = true);
        await using KvScheduler scheduler = new(cache, new ToyModel(), new KvSchedulerOptions { MaxWaiting = 4000, ReservedPart = .2 });
        await RunMany(scheduler, 200, 0);
        long bytes = cache.AllocatedBytes - cache.CachedBytes;
        long heap = GC.GetTotalMemory(forceFullCollection: true);
        await RunMany(scheduler, requests - 200, 200);
        Assert.Equal(bytes, cache.AllocatedBytes - cache.CachedBytes);
        long grown = GC.GetTotalMemory(forceFullCollection: true) - heap;
        Assert.True(grown < 1 << 20, $"{grown} bytes more");
        KvServingStatus status = await scheduler.GetStatusAsync();
        Assert.Equal((requests, requests, 0), (status.Requests, status.Ended, scheduler.Waiting));
    }

    private static async Task RunMany(KvScheduler scheduler, int count, int seed)
    {
        Random random = new(seed);
        foreach (int[] block in Enumerable.Range(seed, count).Chunk(100))
        {
            KvGeneration[] all = [.. block.Select(i => scheduler.Submit(new KvRequest
            {
                Prompt = ToyModel.Prompt(i % 40, random.Next(1, 60)), MaxNewTokens = random.Next(1, 20), Tenant = $"t{i % 3}", Choices = i % 9 == 0 ? 2 : 1,
            }))];
            foreach (KvGeneration generation in all.Where((_, i) => i % 7 == 3))
            {
                generation.Cancel();
            }

            await Task.WhenAll(all.Select(generation => generation.Ended));
            Assert.All(all, generation => Assert.Null(generation.Failure));
        }
    }
}
