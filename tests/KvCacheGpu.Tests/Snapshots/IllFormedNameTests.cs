using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>
/// Names that UTF-8 cannot say are refused wherever a host gives one: written with U+FFFD in the place of half a surrogate pair, several would be
/// one, and one tenant would meet another's tokens.
/// </summary>
public sealed class IllFormedNameTests
{
    private static readonly string[] Bad = ["org" + '\ud901', "org" + '\udd01', '\ud802' + "org", "o" + '\udfff' + '\ud800' + "g", "\ud83d\ude00" + '\ud83d'];
    private static readonly string[] Good = ["org\ufffd", "org", "\ud83d\ude00", "e\u0301", "\u00e9", " org", "org\0", "", "ORG"];

    [Fact]
    public void Sequences_take_none_of_them()
    {
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, new KvCacheOptions { MaxTokens = 64, PrefixReuse = true });
        using KvSequence sequence = cache.CreateSequence();
        foreach (string bad in Bad)
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
        foreach (string bad in Bad)
        {
            Assert.All(fields, field => Assert.Throws<ArgumentException>(() => field(bad).ToHash()));
        }

        BlockHash[] hashes = [.. fields.SelectMany(field => Good.Select(text => field(text).ToHash())), new PrefixNamespace().ToHash()];
        Assert.Distinct(hashes);
    }

    [Fact]
    public void Sessions_take_none_of_them()
    {
        foreach (string bad in Bad)
        {
            Assert.Throws<ArgumentException>(() => new KvSessionKey(bad));
            Assert.Throws<ArgumentException>(() => new KvSessionKey("a", bad));
            Assert.Throws<ArgumentException>(() => new KvSessionKey("a") with { Tenant = bad });
            Assert.Throws<ArgumentException>(() => (KvSessionKey)bad);
        }

        Assert.Equal((null, null), (default(KvSessionKey).Id, default(KvSessionKey).Tenant));
        Assert.All(Good, good => Assert.Equal(good, new KvSessionKey("a", good).Tenant));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Stores_take_none_of_them(bool isEncrypted)
    {
        SnapshotOptions options = SnapshotSample.Inline with { Key = isEncrypted ? SnapshotKey.FromBytes(new byte[32]) : null };
        var store = new MemoryStore(new MemoryDisk(), options);
        SnapshotContent content = SnapshotSample.Create(1).Content;
        store.Save(new SnapshotName("chat", "org\ufffd"), SnapshotSample.Create(1));
        foreach (SnapshotName bad in Bad.SelectMany(bad => (SnapshotName[])[new SnapshotName(bad), new SnapshotName("chat", bad)]))
        {
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync(bad, content, (_, _) => { }));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.LoadAsync(bad, new KeptTarget()));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.OpenAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.InspectAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.VerifyAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.DeleteAsync(bad));
        }

        Assert.Equal("org\ufffd", Assert.Single(store.Store.List(default)).Name!.Value.Tenant);
        Assert.Throws<ArgumentException>(() => new SnapshotStore("/kv/" + Bad[0]));
    }

    [Fact]
    public async Task Contents_with_names_that_would_not_be_read_back_are_refused()
    {
        var store = new MemoryStore(new MemoryDisk());
        SnapshotContent good = SnapshotSample.Create(1).Content;
        SnapshotSequence first = good.Sequences[0];
        foreach (string bad in Bad.Append(new string('x', SnapshotLimits.TextBytes + 1)))
        {
            SnapshotContent[] contents =
            [
                good with { ModelFingerprint = bad },
                good with { Sequences = [first with { Id = bad }] },
                good with { Sequences = [first with { Tenant = bad }] },
                good with { Sequences = [first with { Adapter = bad }] },
                good with { Sequences = [first with { Metadata = new Dictionary<string, string> { [bad] = "" } }] },
                good with { Sequences = [first with { Metadata = new Dictionary<string, string> { ["a"] = bad } }] },
                good with { Sequences = [first with { Scores = [new(bad, new float[first.Entries])] }] },
            ];
            foreach (SnapshotContent content in contents)
            {
                await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync("a", content, (_, _) => { }));
            }
        }
    }
}
