#pragma warning disable KVC0001 // What is tested here is obsolete, and works.
namespace KvCacheGpu.Sessions.Tests;

/// <summary>Version 1 goes on working, by the rules of its time.</summary>
public class SimpleKvCacheTests
{
    [Fact]
    public void What_is_put_is_got_as_copies()
    {
        var cache = new SimpleKvCache(maxSize: 4);
        float[] key = [1, 2];
        cache.Put(7, key, [3]);
        key[0] = 9;
        cache.Get(7)!.Value.Key[1] = 9;
        Assert.Equal([1, 2], cache.Get(7)!.Value.Key);
        Assert.Null(cache.Get(8));
        cache.Put(7, [5], [6]);
        Assert.Equal([5], cache.Get(7)!.Value.Key);
        Assert.Equal((1, 3L, 1L, 0L), cache.GetStats());
        cache.Clear();
        Assert.Null(cache.Get(7));
    }

    [Theory]
    [InlineData(8, 2)]
    [InlineData(3, 1)]
    [InlineData(1, 1)]
    public void A_quarter_goes_at_once_and_one_at_least(int size, int leaving)
    {
        SimpleKvCache cache = Full(size, KvCacheStrategy.Lru);
        cache.Put(100, [0], [0]);
        Assert.Equal(size - leaving + 1, cache.Count);
        Assert.Equal(leaving, cache.GetStats().Evicted);
    }

    [Fact]
    public void Lru_drops_what_was_used_longest_ago()
    {
        SimpleKvCache cache = Full(8, KvCacheStrategy.Lru);
        _ = cache.Get(0);
        cache.Put(1, [0], [0]);
        cache.Put(8, [0], [0]);
        Assert.Equal([0, 1, 4, 5, 6, 7, 8], Kept(cache, 9));
    }

    [Fact]
    public void Lfu_drops_what_was_used_least_and_of_equals_the_older()
    {
        SimpleKvCache cache = Full(8, KvCacheStrategy.Lfu);
        foreach (int position in (int[])[0, 1, 2, 4, 5])
        {
            _ = cache.Get(position);
        }

        cache.Put(8, [0], [0]);
        Assert.Equal([0, 1, 2, 4, 5, 7, 8], Kept(cache, 9));
    }

    [Fact]
    public void Adaptive_weighs_recency_and_count_alike()
    {
        // Ages 8..1 at first; 0 is used five times, then 1..3 once: 4 is old and rarely used, 5 a little newer.
        SimpleKvCache cache = Full(8, KvCacheStrategy.Adaptive);
        foreach (int position in (int[])[0, 0, 0, 0, 0, 1, 2, 3])
        {
            _ = cache.Get(position);
        }

        cache.Put(8, [0], [0]);
        Assert.Equal([0, 1, 2, 3, 6, 7, 8], Kept(cache, 9));

        // By recency alone 0 would go now; its count holds it.
        Assert.NotNull(cache.Get(0));
    }

    [Fact]
    public void What_it_cannot_be_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new SimpleKvCache(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new SimpleKvCache(4, KvCacheStrategy.Paged));
    }

    [Fact]
    public void Its_warning_has_an_id_and_a_page_that_explains_it()
    {
        var obsolete = (ObsoleteAttribute)Attribute.GetCustomAttribute(typeof(SimpleKvCache), typeof(ObsoleteAttribute))!;
        Assert.False(obsolete.IsError);
        Assert.Equal("KVC0001", obsolete.DiagnosticId);
        string page = obsolete.UrlFormat!.Split('#')[0];
        Assert.Contains("## KVC0001", File.ReadAllText(Path.Combine(KeyTableTests.Root(), page)), StringComparison.Ordinal);
    }

    private static SimpleKvCache Full(int size, KvCacheStrategy strategy)
    {
        var cache = new SimpleKvCache(size, strategy);
        for (int position = 0; position < size; position++)
        {
            cache.Put(position, [position], [position]);
        }

        return cache;
    }

    private static int[] Kept(SimpleKvCache cache, int positions) => [.. Enumerable.Range(0, positions).Where(position => cache.Get(position) is not null)];
}
