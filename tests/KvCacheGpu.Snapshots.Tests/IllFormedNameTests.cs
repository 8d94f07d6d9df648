using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>
/// Names that UTF-8 cannot say are refused: written with U+FFFD in the place of half a surrogate pair, several would be one, and one tenant would load
/// another's snapshot.
/// </summary>
public sealed class IllFormedNameTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Stores_take_none_of_them(bool isEncrypted)
    {
        SnapshotOptions options = SnapshotSample.Inline with { Key = isEncrypted ? SnapshotKey.FromBytes(new byte[32]) : null };
        var store = new MemoryStore(new MemoryDisk(), options);
        SnapshotContent content = SnapshotSample.Create(1).Content;
        store.Save(new SnapshotName("chat", "org\ufffd"), SnapshotSample.Create(1));
        foreach (SnapshotName bad in HardNames.IllFormed.SelectMany(bad => (SnapshotName[])[new SnapshotName(bad), new SnapshotName("chat", bad)]))
        {
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync(bad, content, (_, _) => { }));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.LoadAsync(bad, new KeptTarget()));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.OpenAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.InspectAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.VerifyAsync(bad));
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.DeleteAsync(bad));
        }

        Assert.Equal("org\ufffd", Assert.Single(store.Store.List(default)).Name!.Value.Tenant);
        Assert.Throws<ArgumentException>(() => new SnapshotStore("/kv/" + HardNames.IllFormed[0]));
    }

    [Fact]
    public async Task Contents_with_names_that_would_not_be_read_back_are_refused()
    {
        var store = new MemoryStore(new MemoryDisk());
        SnapshotContent good = SnapshotSample.Create(1).Content;
        SnapshotSequence first = good.Sequences[0];
        foreach (string bad in HardNames.IllFormed.Append(new string('x', SnapshotLimits.TextBytes + 1)))
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
