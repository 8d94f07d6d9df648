using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Small caches, and steps over them.</summary>
internal static class TestCaches
{
    public static readonly KvGeometry Tiny = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, pageTokens: 4) { Rope = new KvRope { Theta = 100 } };

    public static KvCache Reference(KvGeometry geometry, KvCacheOptions? config = null, AllocationObserver? observer = null) =>
        new(geometry, config, (shape, bytes, seen) => new ReferenceTier(shape, bytes, seen), observer);

    public static KvCache Simd(KvGeometry geometry, KvCacheOptions? config = null, AllocationObserver? observer = null) =>
        new(geometry, config, (shape, bytes, seen) => new SimdTier(shape, bytes, SimdLevel.Auto, 1, seen), observer);

    /// <summary>Each format with itself or, T, with its V.</summary>
    public static IReadOnlyList<KvFormats> NaturalPairs { get; } =
    [
        .. from key in Enum.GetValues<PageFormat>()
           from value in Enum.GetValues<PageFormat>()
           where PageFormats.IsPair(key, value) && (key == value || key.IsCentered()) && value != PageFormat.I8 | key == value
           select new KvFormats(key, value),
    ];

    public static KvCacheOptions Config(KvFormats formats)
    {
        KvCacheOptions config = Config(formats.Key);
        config.ValueFormat = formats.Value;
        return config;
    }

    public static KvCacheOptions Config(PageFormat format = PageFormat.F32, int maxTokens = 256, int maxSequences = 4, int maxBatchTokens = 32) => new()
    {
        Device = "cpu",
        MaxTokens = maxTokens,
        MaxSequences = maxSequences,
        MaxBatchTokens = maxBatchTokens,
        KeyFormat = format,
        ValueFormat = format,
        FullPrecision = PageFormat.F32,

        // A page of the tiny model: rollbacks of a page stay exact, and two pages are open at most.
        ExactRollbackTokens = Tiny.PageTokens,
    };

    /// <summary>The same, of a cache that tells the attention that pages receive.</summary>
    public static KvCacheOptions Measuring(PageFormat format = PageFormat.F32)
    {
        KvCacheOptions config = Config(format);
        config.PageStatistics = true;
        return config;
    }

    /// <summary>Appends all layers of tokens whose ids are their content, and commits.</summary>
    public static void Feed(this KvSequence sequence, params int[] ids)
    {
        using KvStep step = sequence.Begin(ids);
        AppendAll(step, sequence.Cache.Geometry, ids);
        step.Commit();
    }

    /// <summary>Ids first..first+count-1, a step of at most <paramref name="chunk"/> tokens after the other.</summary>
    public static void FeedMany(this KvSequence sequence, int first, int count, int chunk = 16)
    {
        for (int done = 0; done < count; done += chunk)
        {
            sequence.Feed([.. Enumerable.Range(first + done, Math.Min(chunk, count - done))]);
        }
    }

    public static void AppendAll(KvStep step, KvGeometry geometry, ReadOnlySpan<int> ids)
    {
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(geometry, layer, ids), TokenContent.Values(geometry, layer, ids));
        }
    }

    /// <summary>Steps over one token and returns the attention output of every layer.</summary>
    public static float[] Decode(this KvSequence sequence, int id)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        int width = geometry.QueryHeads * geometry.ValueWidth;
        var output = new float[geometry.Layers * width];
        using KvStep step = sequence.Begin([id]);
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(geometry, layer, [id]), TokenContent.Values(geometry, layer, [id]));
            step.Attend(layer, TokenContent.Queries(geometry, layer, [id]), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    public static (float[] Keys, float[] Values) Materialized(this KvSequence sequence, int layer)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        int tokens = sequence.ResidentTokens(layer, 0);
        var keys = new float[tokens * geometry.KvHeads * geometry.KeyWidth];
        var values = new float[tokens * geometry.KvHeads * geometry.ValueWidth];
        Assert.Equal(tokens, sequence.Materialize(layer, keys, values));
        return (keys, values);
    }
}
