using Xunit.Abstractions;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>
/// A small cache above three tiers of which everything fails now and then: reads and writes that throw, wait, or give other bytes, fetches that are cancelled, tiers that forget.
/// What is generated is what a cache without tiers generates. KVCACHE_SOAK multiplies the rounds.
/// </summary>
public sealed class TierSoakTests(ITestOutputHelper output) : IDisposable
{
    private const int Rounds = 120;

    private static readonly KvGeometry G = TestCaches.Tiny;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-tiers-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Whatever_fails_below_no_token_is_another(int seed)
    {
        var random = new Random(seed);
        int[][] prompts = [.. Enumerable.Range(0, 6).Select(i => (int[])[.. Range(1, 20), .. Range(1000 * (i / 2), 12), .. Range(100 * i, 6 + i)])];
        using KvCache plain = TestCaches.Simd(G, TestCaches.Config(PageFormat.F16));
        int[][] expected = [.. prompts.Select(prompt => Alone(plain, prompt))];

        using var host = new KvHostTier(8_000);
        using var disk = new KvDiskTier(Path.Combine(_folder, "disk"), 20_000);
        var far = new MapTier("far");
        long failures = 0;
        far.Reading = _ => Fault(far);
        far.Writing = _ => Fault(far);
        KvCacheOptions options = TestCaches.Config(PageFormat.F16, maxTokens: 128, maxSequences: 3);
        (options.PrefixReuse, options.ModelFingerprint, options.Tiers) = (true, "toy", [host, disk, far]);
        long reused = 0;
        long fetched = 0;
        for (int life = 0; life < 4; life++)
        {
            (options.Backup, options.PrefetchSize) = (life % 2 == 0 ? KvBackup.WhenSealed : KvBackup.WhenReleased, 1 + (life * 3));

            // Nearer tiers answer first: without them the farther ones are asked for all that the device does not hold.
            options.Tiers = life switch { 1 => [disk, far], 2 => [far], _ => [host, disk, far] };
            using KvCache cache = TestCaches.Simd(G, options);
            for (int round = 0; round < Rounds / 4 * Soak.Factor; round++)
            {
                int one = random.Next(prompts.Length);
                if (random.Next(4) == 0)
                {
                    await Cancelled(cache, prompts[random.Next(prompts.Length)], random.Next(3));
                }

                using KvSequence sequence = cache.CreateSequence();
                reused += sequence.Reuse(prompts[one]);
                Assert.Equal(expected[one], sequence.Generate(prompts[one], expected[one].Length));
                if (random.Next(8) == 0)
                {
                    using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
                    using KvSequence back = Assert.Single(await cache.SwapInAsync(swapped));
                    Assert.Equal(prompts[one], back.TokenIds[..prompts[one].Length].ToArray());
                }
            }

            await cache.BackUpAsync();
            fetched += cache.GetFetchCounts().Fetched;
            Assert.True(cache.AllocatedBytes <= cache.BudgetBytes);
        }

        output.WriteLine($"{failures} faults, {fetched} blocks fetched, {reused} tokens reused; {host.Counts}; {disk.Counts}; {far.Counts}");
        Assert.True(failures > 0 && fetched > 0 && reused > 0 && far.Counts is { Errors: > 0, Read: > 0 } && disk.Counts.Read > 0);

        async ValueTask Fault(MapTier tier)
        {
            int kind;
            lock (random)
            {
                kind = random.Next(12);
            }

            Interlocked.Increment(ref failures);
            switch (kind)
            {
                case 0:
                    throw new IOException("expected a server, got none");
                case 1:
                    await Task.Delay(5);
                    break;
                case 2:
                    tier.Clear();
                    break;
                case 3:
                    foreach (BlockHash key in tier.Keys)
                    {
                        byte[] bent = [.. tier[key]];
                        bent[bent.Length / 3] ^= 1;
                        tier[key] = bent;
                    }

                    break;
                default:
                    Interlocked.Decrement(ref failures);
                    break;
            }
        }
    }

    private static int[] Alone(KvCache cache, int[] prompt)
    {
        using KvSequence sequence = cache.CreateSequence();
        return sequence.Generate(prompt, 12);
    }

    private static async Task Cancelled(KvCache cache, int[] prompt, int milliseconds)
    {
        using var cancel = new CancellationTokenSource(milliseconds);
        try
        {
            await cache.PrefetchAsync(new KvSequenceOptions(), prompt, cancel.Token);
        }
        catch (OperationCanceledException)
        {
            // What has come stays.
        }
    }
}
