using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>
/// Names that UTF-8 cannot say are refused wherever a host gives one: written with U+FFFD in the place of half a surrogate pair, several would be
/// one, and one tenant would meet another's tokens.
/// </summary>
public sealed class IllFormedNameTests
{
    [Fact]
    public void Sequences_take_none_of_them()
    {
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, new KvCacheOptions { MaxTokens = 64, PrefixReuse = true });
        using KvSequence sequence = cache.CreateSequence();
        foreach (string bad in HardNames.IllFormed)
        {
            Assert.Throws<ArgumentException>(() => new KvSequenceOptions { Tenant = bad });
            Assert.Throws<ArgumentException>(() => new KvSequenceOptions { Adapter = bad });
            Assert.Throws<ArgumentException>(() => new KvSequenceOptions { Salt = bad });
            Assert.Throws<ArgumentException>(() => sequence.Name = bad);
            Assert.Throws<ArgumentException>(() => sequence.Metadata = new Dictionary<string, string> { [bad] = "" });
            Assert.Throws<ArgumentException>(() => sequence.Metadata = new Dictionary<string, string> { ["a"] = bad });
            Assert.Throws<ArgumentException>(() => new KvCacheOptions { ModelFingerprint = bad });
        }
    }

    [Fact]
    public void Prefixes_hash_apart_what_is_apart_and_nothing_else()
    {
        Func<string?, PrefixNamespace>[] fields =
        [
            text => new PrefixNamespace { Tenant = text }, text => new PrefixNamespace { Adapter = text }, text => new PrefixNamespace { Salt = text },
            text => new PrefixNamespace { ModelFingerprint = text }, text => new PrefixNamespace { LayerFormats = text },
        ];
        foreach (string bad in HardNames.IllFormed)
        {
            Assert.All(fields, field => Assert.Throws<ArgumentException>(() => field(bad).ToHash()));
        }

        BlockHash[] hashes = [.. fields.SelectMany(field => HardNames.WellFormed.Select(text => field(text).ToHash())), new PrefixNamespace().ToHash()];
        Assert.Distinct(hashes);
    }

    [Fact]
    public void Sessions_take_none_of_them()
    {
        foreach (string bad in HardNames.IllFormed)
        {
            Assert.Throws<ArgumentException>(() => new KvSessionKey(bad));
            Assert.Throws<ArgumentException>(() => new KvSessionKey("a", bad));
            Assert.Throws<ArgumentException>(() => new KvSessionKey("a") with { Tenant = bad });
            Assert.Throws<ArgumentException>(() => (KvSessionKey)bad);
        }

        Assert.Equal((null, null), (default(KvSessionKey).Id, default(KvSessionKey).Tenant));
        Assert.All(HardNames.WellFormed, good => Assert.Equal(good, new KvSessionKey("a", good).Tenant));
    }
}
