using KvCacheGpu.TestKit;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Blocks of prefixes that go to lower tiers and come back.</summary>
public sealed class PrefixTierTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly int[] Prompt = Range(1, 38);

    [Theory]
    [InlineData(PageFormat.F32, KvBackup.WhenSealed)]
    [InlineData(PageFormat.F16, KvBackup.WhenReleased)]
    [InlineData(PageFormat.I8, KvBackup.WhenSealed)]
    public async Task What_another_cache_computed_is_generated_on_bit_for_bit(PageFormat format, KvBackup backup)
    {
        using KvCache plain = TestCaches.Simd(G, Sharing(format));
        using KvSequence before = plain.CreateSequence();
        int[] text = before.Generate(Prompt, 30);
        using KvSequence alone = plain.CreateSequence();
        Assert.InRange(alone.Reuse(Prompt), 36, 37);
        int[] expected = alone.Generate(Prompt, 30);

        var tier = new MapTier();
        using (KvCache first = TestCaches.Simd(G, With(format, backup, tier)))
        {
            using (KvSequence sequence = first.CreateSequence())
            {
                Assert.Equal(text, sequence.Generate(Prompt, 30));
            }

            await first.BackUpAsync();
        }

        using KvCache second = TestCaches.Simd(G, With(format, backup, tier));
        using KvSequence other = second.CreateSequence();
        Assert.Equal(36, other.Reuse(Prompt));
        Assert.Equal(expected, other.Generate(Prompt, 30));
        for (int layer = 0; layer < G.Layers; layer++)
        {
            Assert.Equal(alone.Materialized(layer).Keys, other.Materialized(layer).Keys);
            Assert.Equal(alone.Materialized(layer).Values, other.Materialized(layer).Values);
        }

        Assert.Equal(new KvFetchCounts(9, 9, 9, 0, 0), second.GetFetchCounts());
        Assert.Equal(9, tier.Counts.Read);
    }

    [Fact]
    public async Task A_prefix_that_was_given_up_comes_back_in_place_of_being_computed()
    {
        var tier = new MapTier();
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, tier);
        (options.MaxTokens, options.MaxSequences) = (96, 2);
        using KvCache cache = TestCaches.Simd(G, options);
        int[] expected;
        using (KvSequence sequence = cache.CreateSequence())
        {
            expected = sequence.Generate(Prompt, 20);
        }

        await cache.BackUpAsync();
        for (int i = 1; i <= 4; i++)
        {
            using KvSequence passing = cache.CreateSequence();
            passing.Read(Range(1000 * i, 80));
        }

        using KvSequence again = cache.CreateSequence();
        Assert.Equal(36, again.Reuse(Prompt));
        Assert.Equal(expected, again.Generate(Prompt, 20));
        Assert.Equal(9, cache.GetFetchCounts().Used);
    }

    [Fact]
    public async Task Fetched_ahead_a_prefix_is_resident_and_nobody_waits_for_it()
    {
        MapTier tier = await Filled(Prompt);
        using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
        Assert.Equal(36, await cache.PrefetchAsync(new KvSequenceOptions(), Prompt));
        Assert.Equal(36, await cache.PrefetchAsync(new KvSequenceOptions(), Prompt));
        Assert.Equal(new KvFetchCounts(9, 0, 0, 0, 0), cache.GetFetchCounts());
        long live = cache.AllocatedBytes;
        Assert.True(cache.CachedBytes > 0);

        tier.Clear();
        using KvSequence sequence = cache.CreateSequence();
        Assert.Equal(36, sequence.Reuse(Prompt));
        Assert.Equal(new KvFetchCounts(9, 0, 9, 0, 0), cache.GetFetchCounts());
        Assert.True(cache.AllocatedBytes > live);
    }

    [Theory]
    [InlineData(true, 8)]
    [InlineData(true, 4)]
    [InlineData(true, 2)]
    [InlineData(true, 1)]
    [InlineData(false, 8)]
    public async Task The_size_of_a_fetch_changes_nothing_that_is_found(bool prefetch, int size)
    {
        MapTier tier = await Filled(Prompt);
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, tier);
        (options.EnablePrefetch, options.PrefetchSize) = (prefetch, size);
        var asked = new List<int>();
        tier.Reading = async keys =>
        {
            asked.Add(keys);
            await Task.Yield();
        };
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence();
        Assert.Equal(36, sequence.Reuse(Prompt));
        Assert.Equal(prefetch ? size : 1, asked.Max());
        Assert.Equal(9, asked.Sum());
    }

    [Fact]
    public async Task Blocks_in_the_middle_that_no_tier_has_end_a_fetch()
    {
        MapTier tier = await Filled(Prompt);
        MapTier part = new();
        foreach (BlockHash key in tier.Keys.Take(5))
        {
            part[key] = tier[key];
        }

        using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, part));
        using KvSequence sequence = cache.CreateSequence();
        int hit = sequence.Reuse(Prompt);
        Assert.InRange(hit, 0, 20);
        Assert.Equal(hit, 4 * cache.GetFetchCounts().Used);
    }

    [Fact]
    public async Task The_nearest_tier_is_asked_first_and_gets_what_it_missed()
    {
        MapTier far = await Filled(Prompt);
        var near = new MapTier("near");
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, far);
        options.Tiers = [near, far];
        using (KvCache cache = TestCaches.Simd(G, options))
        using (KvSequence sequence = cache.CreateSequence())
        {
            Assert.Equal(36, sequence.Reuse(Prompt));
        }

        Assert.Equal((9, 0, 9, 9), (near.Counts.Written, near.Counts.Read, near.Counts.Missed, far.Counts.Read));
        using (KvCache cache = TestCaches.Simd(G, options))
        using (KvSequence sequence = cache.CreateSequence())
        {
            Assert.Equal(36, sequence.Reuse(Prompt));
        }

        Assert.Equal((9, 9), (near.Counts.Read, far.Counts.Read));
    }

    [Fact]
    public async Task Bytes_that_are_not_those_written_are_a_miss_and_counted()
    {
        MapTier tier = await Filled(Prompt);
        foreach (BlockHash key in tier.Keys)
        {
            byte[] whole = tier[key];
            for (int i = 0; i < whole.Length; i += 97)
            {
                byte[] bent = [.. whole];
                bent[i] ^= 4;
                tier[key] = bent;
                using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
                using KvSequence sequence = cache.CreateSequence();
                Assert.True(sequence.Reuse(Prompt) < 36);
                Assert.True(tier.Counts.Errors > 0);
            }

            tier[key] = whole;
            break;
        }

        // A block under the key of another is no block either.
        BlockHash[] keys = [.. tier.Keys];
        (tier[keys[0]], tier[keys[1]]) = (tier[keys[1]], tier[keys[0]]);
        using KvCache swapped = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
        using KvSequence last = swapped.CreateSequence();
        Assert.True(last.Reuse(Prompt) < 36);
    }

    [Fact]
    public async Task A_tier_that_fails_is_a_miss_and_no_step_knows()
    {
        MapTier tier = await Filled(Prompt);
        tier.Reading = _ => throw new IOException("expected a disk, got none");
        tier.Writing = tier.Reading;
        using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
        using KvSequence sequence = cache.CreateSequence();
        Assert.Equal(0, sequence.Reuse(Prompt));
        sequence.Generate(Prompt, 10);
        await cache.BackUpAsync();
        Assert.True(tier.Counts.Errors >= 2);
        Assert.Equal("expected a disk, got none", tier.Counts.LastError);
    }

    [Theory]
    [InlineData("tenant")]
    [InlineData("salt")]
    [InlineData("model")]
    [InlineData("format")]
    [InlineData("geometry")]
    public async Task What_differs_in_a_name_is_never_found(string what)
    {
        MapTier tier = await Filled(Prompt);
        KvCacheOptions options = With(what == "format" ? PageFormat.BF16 : PageFormat.F16, KvBackup.WhenSealed, tier);
        options.ModelFingerprint = what == "model" ? "another" : "toy";
        var geometry = new KvGeometry(G.Layers + 1, G.QueryHeads, G.KvHeads, G.KeyWidth, G.ValueWidth, G.PageTokens);
        using KvCache cache = TestCaches.Simd(what == "geometry" ? geometry : G, options);
        using KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = what == "tenant" ? "a" : null, Salt = what == "salt" ? "s" : null });
        Assert.Equal(0, sequence.Reuse(Prompt));
        Assert.Equal(0, tier.Counts.Read);
    }

    [Theory]
    [InlineData("2 shards")]
    [InlineData("2 layers")]
    [InlineData("2 x 2")]
    public async Task Parts_of_a_group_share_a_tier_and_each_finds_its_own(string tiling)
    {
        var tier = new MapTier();
        KvCacheOptions options = With(PageFormat.F32, KvBackup.WhenSealed, tier);
        int[] prompt = Range(0, 33);
        float[] expected;
        using (KvCacheGroup group = TestGroups.Make(tiling, options))
        using (KvGroupSequence sequence = group.CreateSequence())
        {
            _ = sequence.Feed(prompt[..32]);
            expected = sequence.Feed(32);
            foreach (KvCache part in group.Caches)
            {
                await part.BackUpAsync();
            }
        }

        using KvCacheGroup again = TestGroups.Make(tiling, options);
        using KvGroupSequence other = again.CreateSequence();
        int known = other.Reuse(prompt);
        Assert.Equal(28, known);
        _ = other.Feed(prompt[known..32]);
        Assert.Equal(expected, other.Feed(32));
        Assert.Equal(again.Parts.Count * 7, tier.Counts.Read);
    }

    [Fact]
    public async Task A_tier_that_takes_longer_than_computing_is_not_asked_again()
    {
        MapTier tier = await Filled(Range(1, 80));
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, tier);
        options.RecomputeTokensPerSecond = 1e9;
        options.PrefetchSize = 1;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence();

        // It does not know before the first block came; one more was on its way.
        Assert.InRange(sequence.Reuse(Range(1, 80)), 4, 8);
    }

    [Fact]
    public async Task Blocks_of_low_priority_are_not_backed_up()
    {
        var tier = new MapTier();
        using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenReleased, tier));
        var options = new KvSequenceOptions { Retention = [new KvRetentionRange(0, 20, 10)] };
        using (KvSequence sequence = cache.CreateSequence(options))
        {
            sequence.Generate(Prompt, 20);
        }

        await cache.BackUpAsync();

        // Of 58 tokens 13 pages are sealed; the first five are of low priority.
        Assert.Equal(8, tier.Keys.Count);
    }

    [Fact]
    public async Task Backing_up_holds_nothing_that_a_step_could_want()
    {
        var tier = new MapTier();
        var gate = new TaskCompletionSource();
        tier.Writing = async _ => await gate.Task;
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, tier);
        (options.MaxTokens, options.MaxSequences, options.PrefetchSize) = (96, 2, 1);
        using KvCache cache = TestCaches.Simd(G, options);
        for (int i = 1; i <= 5; i++)
        {
            using KvSequence sequence = cache.CreateSequence();
            sequence.Read(Range(1000 * i, 80));
        }

        gate.SetResult();
        await cache.BackUpAsync();
        Assert.True(cache.GetFetchCounts().LeftOut > 0);

        // What is there is whole.
        using KvCache other = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
        for (int i = 1; i <= 5; i++)
        {
            using KvSequence sequence = other.CreateSequence();
            sequence.Reuse(Range(1000 * i, 80));
        }

        Assert.Equal(0, tier.Counts.Errors);
    }

    [Fact]
    public async Task A_block_that_is_given_up_while_it_is_copied_is_left_out()
    {
        var tier = new MapTier();
        CountingTier? kernels = null;
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenReleased, tier);
        using var cache = new KvCache(G, options, (shape, bytes, seen) => kernels = new CountingTier(new ReferenceTier(shape, bytes, seen)));
        using var inside = new SemaphoreSlim(0);
        using var goOn = new ManualResetEventSlim();
        kernels!.Reading = () =>
        {
            inside.Release();
            goOn.Wait();
        };
        using (KvSequence sequence = cache.CreateSequence())
        {
            sequence.Read([.. Prompt, 900, 901]);
        }

        await inside.WaitAsync();
        using (cache.State.Pool.Gate.Enter())
        {
            while (cache.State.Prefixes!.Index.Evict() > 0)
            {
            }
        }

        goOn.Set();
        await cache.BackUpAsync();
        Assert.Empty(tier.Keys);
        Assert.Equal(9, cache.GetFetchCounts().LeftOut);
    }

    [Fact]
    public async Task A_fetch_into_a_full_cache_leaves_what_sequences_hold()
    {
        MapTier tier = await Filled(Range(1, 80));
        KvCacheOptions options = With(PageFormat.F16, KvBackup.WhenSealed, tier);
        (options.MaxTokens, options.MaxSequences) = (96, 2);
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence holder = cache.CreateSequence();
        holder.Read(Range(1000, 60));
        float[] before = holder.Materialized(1).Keys;
        int came = await cache.PrefetchAsync(new KvSequenceOptions(), Range(1, 80));
        Assert.InRange(came, 0, 60);
        Assert.Equal(before, holder.Materialized(1).Keys);
        holder.Read(Range(2000, 8));
        Assert.True(cache.AllocatedBytes <= cache.BudgetBytes);
    }

    // The whole blocks of a prompt and no others, as another cache has left them.
    private static async Task<MapTier> Filled(int[] prompt)
    {
        var tier = new MapTier();
        using KvCache cache = TestCaches.Simd(G, With(PageFormat.F16, KvBackup.WhenSealed, tier));
        using KvSequence sequence = cache.CreateSequence();
        sequence.Read([.. prompt, 900, 901]);
        await cache.BackUpAsync();
        Assert.Equal((prompt.Length - 1) / G.PageTokens, tier.Keys.Count);
        return tier;
    }

    private static KvCacheOptions Sharing(PageFormat format)
    {
        KvCacheOptions options = TestCaches.Config(format);
        options.PrefixReuse = true;
        return options;
    }

    private static KvCacheOptions With(PageFormat format, KvBackup backup, KvTier tier)
    {
        KvCacheOptions options = Sharing(format);
        (options.Tiers, options.Backup, options.ModelFingerprint) = ([tier], backup, "toy");
        return options;
    }
}
