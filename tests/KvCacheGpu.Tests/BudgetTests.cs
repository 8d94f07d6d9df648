using System.Globalization;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class BudgetTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, 0)]
    [InlineData(PageFormat.I8, 0)]
    [InlineData(PageFormat.F16, 11)]
    [InlineData(PageFormat.I8, 8)]
    [InlineData(PageFormat.I8, 13)]
    public void A_budget_too_small_names_the_minimum_and_the_minimum_works(PageFormat format, int window)
    {
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 240);
        config.Policy = window == 0 ? null : new WindowPolicy(3, window);
        config.MemoryBudgetBytes = 1000;
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => TestCaches.Simd(G, config));
        Assert.Equal(("E003", "1000 bytes"), (refused.Code, refused.Actual));
        long minimum = long.Parse(refused.Expected.Split(' ')[2], CultureInfo.InvariantCulture);
        Assert.Equal((minimum, 1000L, "bytes"), (refused.Needed, refused.Free, refused.Unit));
        config.MemoryBudgetBytes = minimum - 1;
        Assert.Throws<KvConfigurationException>(() => TestCaches.Simd(G, config));
        config.MemoryBudgetBytes = minimum;
        long observed = 0;
        using KvCache cache = TestCaches.Simd(G, config, (kind, bytes) => observed += bytes * (kind == AllocationKind.Arena ? 0 : 1));
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < (window == 0 ? 8 : 240); id++)
        {
            sequence.Decode(id);
            Assert.InRange(cache.AllocatedBytes, 1, minimum);
            Assert.Equal(observed, cache.AllocatedBytes);
        }
    }

    [Theory]
    [InlineData(PageFormat.F32, 1)]
    [InlineData(PageFormat.I8, 1)]
    [InlineData(PageFormat.F16, 4)]
    [InlineData(PageFormat.I8, 4)]
    public void The_default_budget_holds_MaxTokens_however_they_are_spread(PageFormat format, int sequences)
    {
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 203, maxSequences: 4);
        using KvCache cache = TestCaches.Reference(G, config);
        var held = new List<KvSequence>();
        for (int i = 0; i < sequences; i++)
        {
            held.Add(cache.CreateSequence());
            held[i].FeedMany(1000 * i, i == 0 ? 203 - (33 * (sequences - 1)) : 33, chunk: 32);
        }

        Assert.True(cache.AllocatedBytes <= cache.BudgetBytes);
        Assert.True(cache.ReservedBytes <= cache.BudgetBytes);
        held.ForEach(sequence => sequence.Dispose());
    }

    [Fact]
    public void A_refusal_names_what_is_there_and_changes_nothing_and_room_made_lets_it_through()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64, maxSequences: 2);
        config.MemoryBudgetBytes = 1;
        string expected = Assert.Throws<KvConfigurationException>(() => TestCaches.Reference(G, config)).Expected;
        config.MemoryBudgetBytes = long.Parse(expected.Split(' ')[2], CultureInfo.InvariantCulture) + 9000;
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence a = cache.CreateSequence();
        KvSequence b = cache.CreateSequence();
        while (b.CanAppend(1))
        {
            b.Feed(b.Length);
        }

        while (a.CanAppend(1))
        {
            a.Feed(a.Length);
        }

        (long bytes, int length) = (cache.AllocatedBytes, a.Length);
        KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => a.Begin([1]));
        Assert.Equal(($"at most {refused.Free} bytes", $"{refused.Needed} bytes", true), (refused.Expected, refused.Actual, refused.Free < refused.Needed));
        Assert.Contains("at most", refused.Expected, StringComparison.Ordinal);
        Assert.False(a.TryBegin([1], out _));
        Assert.Equal((bytes, length), (cache.AllocatedBytes, a.Length));
        b.Dispose();
        Assert.True(a.CanAppend(1));
        a.Feed(1);
    }

    [Fact]
    public void Working_memory_of_steps_at_once_comes_out_of_the_same_budget()
    {
        KvCacheOptions config = TestCaches.Config(maxSequences: 3);
        config.MemoryBudgetBytes = 1;
        string expected = Assert.Throws<KvConfigurationException>(() => TestCaches.Reference(G, config)).Expected;
        config.MemoryBudgetBytes = long.Parse(expected.Split(' ')[2], CultureInfo.InvariantCulture) + 9000;
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence a = cache.CreateSequence();
        using KvSequence b = cache.CreateSequence();
        using KvSequence c = cache.CreateSequence();
        long before = cache.AllocatedBytes;
        using (a.Begin([1]))
        {
            using (b.Begin([1]))
            {
            }
        }

        Assert.True(cache.AllocatedBytes > before, "a second step at once has its own working memory");
        while (c.CanAppend(1))
        {
            c.Feed(1);
            Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        }

        Assert.Contains("bytes", Assert.Throws<KvOutOfMemoryException>(() => c.Begin([1])).Actual, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.I8)]
    public void A_budget_that_never_binds_changes_nothing(PageFormat format)
    {
        KvCacheOptions config = TestCaches.Config(format);
        using KvCache plain = TestCaches.Simd(G, config);
        config.MemoryBudgetBytes = 1L << 40;
        using KvCache roomy = TestCaches.Simd(G, config);
        Assert.InRange(roomy.ReservedBytes, plain.ReservedBytes, plain.ReservedBytes * 16);
        using KvSequence a = plain.CreateSequence();
        using KvSequence b = roomy.CreateSequence();
        for (int id = 0; id < 50; id++)
        {
            Assert.Equal(a.Decode(id), b.Decode(id));
        }
    }

    [Theory]
    [InlineData(PageFormat.F16, 8000)]
    [InlineData(PageFormat.F16, 8129)]
    [InlineData(PageFormat.I8, 8129)]
    public void Pages_of_8k_tokens_waste_less_than_4_percent(PageFormat format, int tokens)
    {
        var geometry = new KvGeometry(1, 1, 1, 64);
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 8192, maxSequences: 1, maxBatchTokens: 512);
        config.FullPrecision = PageFormat.F16;
        using KvCache cache = TestCaches.Simd(geometry, config);
        long empty = cache.AllocatedBytes;
        using KvSequence sequence = cache.CreateSequence();
        long created = cache.AllocatedBytes;
        sequence.FeedMany(1, tokens, chunk: 512);
        long vector = format == PageFormat.F16 ? 64 * 2 : 64 + 2;
        int leaves = sequence.State.Table.Leaves;
        long tables = (leaves * cache.State.Tier.Map.LeafBytes) + cache.State.SequenceSize.Bytes(leaves) - cache.State.SequenceSize.Bytes(0);
        Assert.Equal(sequence.AllocatedBytes + tables, cache.AllocatedBytes - created);
        Assert.InRange((double)tables / sequence.AllocatedBytes, 0, 0.03);
        long digests = tokens / 64 * 2 * 64 * 2;
        Assert.InRange((double)sequence.AllocatedBytes / ((tokens * 2 * vector) + digests), 1, 1.04);
        Assert.Equal(0, created - empty);
    }

    [Theory]
    [InlineData(0, 1, 1)]
    [InlineData(16, 0, 1)]
    [InlineData(16, 1, 0)]
    [InlineData(int.MaxValue, 1, 1)]
    public void Settings_out_of_range_are_E003(int maxTokens, int maxSequences, int maxBatchTokens) =>
        Refused(new KvCacheOptions { MaxTokens = maxTokens, MaxSequences = maxSequences, MaxBatchTokens = maxBatchTokens });

    [Fact]
    public void Settings_that_do_not_fit_are_E003()
    {
        Refused(new KvCacheOptions { FullPrecision = PageFormat.I8 });
        Refused(new KvCacheOptions { KeyFormat = (PageFormat)77 });
        Refused(new KvCacheOptions { MemoryBudgetBytes = 0 });
        Refused(new KvCacheOptions { MemoryBudgetPercent = double.NaN });
        Refused(new KvCacheOptions { MemoryBudgetPercent = -1 });
        Refused(new KvCacheOptions { MemoryBudgetPercent = 50, MemoryBudgetBytes = 1 << 20 });
        Refused(new KvCacheOptions { Device = " " });
        Refused(new KvCacheOptions { Device = "abacus" });
        var odd = new KvGeometry(1, 1, 1, 10);
        Assert.Contains(
            "multiple of 4", Assert.Throws<KvConfigurationException>(() => new KvCache(odd, new KvCacheOptions { Device = "cpu", KeyFormat = PageFormat.I8 })).Expected, StringComparison.Ordinal);
    }

    [Fact]
    public void Percent_is_of_the_dense_F16_bytes()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.F16, maxTokens: 4096);
        config.MemoryBudgetPercent = 250;
        using KvCache cache = TestCaches.Simd(G, config);
        Assert.Equal((long)(G.DenseF16Bytes(4096) * 2.5), cache.BudgetBytes);
    }

    private static void Refused(KvCacheOptions config) =>
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => new KvCache(G, config)).Code);
}
