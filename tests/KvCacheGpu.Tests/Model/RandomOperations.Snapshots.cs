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
        SnapshotSaving.Save(_cache.State, store, "all", Array.ConvertAll(sequences, sequence => sequence.State), null, default);
        AssertNoTrace(before, [.. _live]);
        bool isBrimful;
        using (_cache.State.Pool.Gate.Enter())
        {
            // What a policy could drop is no room: a load leaves what lives alone.
            isBrimful = !_live.Exists(model => StepDemand.WhyNot(_cache.State, [model.Sequence.State], [1], out _) is null);
        }

        KvCacheException? refused = null;
        try
        {
            return _random.Next(3) switch
            {
                0 => LoadAside(store, saved),
                1 => LoadElsewhere(store),
                _ => LoadBack(store, saved),
            };
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
        Assert.Equal(_cache.State.Pool.LiveBytes, other.State.Pool.LiveBytes);
        foreach (KvSequence sequence in restored.Sequences)
        {
            sequence.Dispose();
        }

        Assert.Equal(default, other.GetPageCounts());
        return "load aside";
    }

    // Pages of another size mostly, sealed at another age, in other formats: the same tokens, no nearer to what was appended than either format holds them, and steps go on.
    private string LoadElsewhere(SnapshotStore store)
    {
        KvCacheOptions config = _config.Copy();
        PageFormat format = _random.Next(2) == 0 ? PageFormat.F32 : PageFormat.I8;
        (config.KeyFormat, config.ValueFormat, config.LayerFormats) = (format, format, null);
        (config.Policy, config.DemotionFormats, config.MemoryBudgetBytes) = (null, [], null);
        // Forks share no page of another size.
        config.MaxTokens *= 2 * config.MaxSequences;
        config.ExactRollbackTokens = _random.Next(20);
        int pageTokens = new[] { 2, 4, 6, 8, 16 }[_random.Next(5)];
        var geometry = new KvGeometry(_geometry.Layers, _geometry.QueryHeads, _geometry.KvHeads, _geometry.KeyWidth, pageTokens: pageTokens) { Rope = _geometry.Rope };
        using KvCache other = TestCaches.Reference(geometry, config);
        KvRestored restored;
        try
        {
            restored = other.LoadNow(store, "all");
        }
        catch (KvUnsupportedException) when (_policy is not null)
        {
            Assert.Equal(default, other.GetPageCounts());
            return "load elsewhere unsupported";
        }

        int loss = format == PageFormat.I8 ? 24 : 0;
        foreach ((ModelSequence model, KvSequence sequence) in _live.Zip(restored.Sequences))
        {
            var ids = new List<int>(model.Tokens);
            CheckElsewhere(model, sequence, ids, loss);
            while (ids.Count + P <= _config.MaxTokens && _random.Next(4) > 0)
            {
                int[] more = NewIds(1 + _random.Next(P));
                using KvStep step = sequence.Begin(more);
                for (int layer = 0; layer < _geometry.Layers; layer++)
                {
                    step.Append(layer, TokenContent.Keys(_geometry, layer, more), Values(layer, more));
                }

                step.Commit();
                ids.AddRange(more);
            }

            CheckElsewhere(model, sequence, ids, loss);
            sequence.Dispose();
        }

        Assert.Equal(default, other.GetPageCounts());
        return "load elsewhere";
    }

    private void CheckElsewhere(ModelSequence model, KvSequence sequence, List<int> ids, int loss)
    {
        Assert.Equal(ids, sequence.TokenIds.ToArray());
        (int layer, int head) = (_random.Next(_geometry.Layers), _random.Next(_geometry.KvHeads));
        int[] positions = new int[ids.Count];
        float[] keys = new float[ids.Count * _geometry.KeyWidth];
        float[] values = new float[ids.Count * _geometry.ValueWidth];
        int count = sequence.Materialize(layer, head, positions, keys, values);
        int[] held = positions[..count];
        HashSet<int> resident = [.. model.Pages];
        Assert.All(held, position => Assert.True(position >= model.Tokens.Count || resident.Contains(position / P), $"position {position} was dropped"));
        Assert.True(_policy is not null || count == ids.Count, $"{count} of {ids.Count} tokens came");
        int[] heldIds = [.. held.Select(position => ids[position])];
        (float[] allKeys, float[] allValues) = (TokenContent.Keys(_geometry, layer, heldIds), Values(layer, heldIds));
        for (int i = 0; i < count; i++)
        {
            ModelPage page = held[i] < model.Tokens.Count ? model.States[((layer * _geometry.KvHeads) + head, held[i] / P)] : default;
            int vector = (i * _geometry.KvHeads) + head;
            Compare(allKeys.AsSpan(vector * _geometry.KeyWidth, _geometry.KeyWidth), keys.AsSpan(i * _geometry.KeyWidth, _geometry.KeyWidth), Math.Max(loss, page.KeyLoss));
            Compare(allValues.AsSpan(vector * _geometry.ValueWidth, _geometry.ValueWidth), values.AsSpan(i * _geometry.ValueWidth, _geometry.ValueWidth), Math.Max(loss, page.ValueLoss));
        }
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
        KvRestored restored = cache.LoadNow(store, "all");
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(saved, LiveCaches.Transcript(restored.Sequences));
        return restored;
    }
}
