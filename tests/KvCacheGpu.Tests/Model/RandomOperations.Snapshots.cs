using KvCacheGpu.TestKit;
using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <content>Saving all that lives, and loading it into another cache, or back after it was freed.</content>
internal sealed partial class RandomOperations
{
    private string SaveAndLoad()
    {
        KvSequence[] sequences = [.. _live.Select(model => model.Sequence)];
        Trace before = TraceOf([.. _live]);
        string saved = LiveCaches.Transcript(sequences);
        SnapshotStore store = new MemoryStore(new MemoryDisk()).Store;
        _cache.Save(store, "all", sequences, null, default);
        AssertNoTrace(before, [.. _live]);
        bool isBrimful;
        lock (_cache.Pool.Gate)
        {
            // What a policy could drop is no room: a load leaves what lives alone.
            isBrimful = !_live.Exists(model => _cache.WhyNot([model.Sequence], [1], out _) is null);
        }

        KvCacheException? refused = null;
        try
        {
            return _random.Next(2) == 0 ? LoadAside(store, saved) : LoadBack(store, saved);
        }
        catch (KvOutOfMemoryException error)
        {
            refused = error;
        }

        // Demotions may use what steps leave free; loading leaves it free as they do.
        Assert.True(isBrimful && _run.Demotions.Length > 0, refused.Message);
        return "load refused";
    }

    private string LoadAside(SnapshotStore store, string saved)
    {
        using KvCache other = TestCaches.Reference(_geometry, _config);
        KvRestored restored = Load(other, store, saved);
        Assert.Equal(_cache.Pool.LiveBytes, other.Pool.LiveBytes);
        foreach (KvSequence sequence in restored.Sequences)
        {
            sequence.Dispose();
        }

        Assert.Equal(default, other.GetPageCounts());
        return "load aside";
    }

    private string LoadBack(SnapshotStore store, string saved)
    {
        ModelSequence[] models = [.. _live];
        while (_live.Count > 0)
        {
            Free();
        }

        Assert.Equal(default, _cache.GetPageCounts());
        IReadOnlyList<KvSequence> sequences = Load(_cache, store, saved).Sequences;
        _live.AddRange(models.Zip(sequences, (model, sequence) => model.ForkAs(sequence)));
        _live.ForEach(CheckShape);
        return "load back";
    }

    private static KvRestored Load(KvCache cache, SnapshotStore store, string saved)
    {
        KvRestored restored = cache.Load(take => store.Load("all", take, default), null, null, default);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(saved, LiveCaches.Transcript(restored.Sequences));
        return restored;
    }
}
