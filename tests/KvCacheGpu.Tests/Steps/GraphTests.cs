namespace KvCacheGpu.Tests;

/// <summary>Devices without graphs say so, and a step goes on by its calls. What graphs do is held by gpu-check's GraphSuite, on CUDA.</summary>
public sealed class GraphTests
{
    [Theory]
    [InlineData("cpu")]
    [InlineData("ilgpu-cpu")]
    public void A_device_without_graphs_refuses_a_capture_and_a_replay(string device)
    {
        KvGeometry g = TestCaches.Tiny;
        KvCacheOptions options = TestCaches.Config();
        options.Device = device;
        using var cache = new KvCache(g, options);
        using KvSequence sequence = cache.CreateSequence();
        using var graph = new KvStepGraph(default, default, 1, destroy: null);
        Assert.False(cache.HasGraphs);
        using KvStep step = sequence.Begin([1]);
        Assert.Throws<KvUnsupportedException>(() => step.BeginCapture());
        Assert.Throws<KvUnsupportedException>(() => step.EndCapture());
        Assert.Throws<KvUnsupportedException>(() => step.Shape);
        Assert.Contains("graphs", Assert.Throws<KvUnsupportedException>(() => step.Replay(graph)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => step.Replay(null!));
        for (int layer = 0; layer < g.Layers; layer++)
        {
            float[] keys = TokenContent.Keys(g, layer, [1]);
            step.Append(layer, keys, keys);
        }

        step.Commit();
        Assert.Equal(1, sequence.Length);
    }

    /// <summary>Shapes are equal if all of their numbers are, and say what they are.</summary>
    [Fact]
    public void Shapes_differ_in_each_of_their_numbers()
    {
        KvStepShape[] shapes =
        [
            Shape(), Shape(memory: 2), Shape(tokens: 2), Shape(segments: 2), Shape(sums: true), Shape(sequences: 2), Shape(few: new(2, 4)), Shape(few: new(1, 1)),
            Shape(some: new(1, 8)), Shape(many: new(1, 64)),
        ];
        Assert.Equal(shapes.Length, shapes.Distinct().Count());
        Assert.Equal(shapes.Length, shapes.Select(shape => shape.ToString()).Distinct().Count());
        Assert.Equal(Shape(), shapes[0]);

        static KvStepShape Shape(
            long memory = 1, int tokens = 1, int segments = 1, bool sums = false, int sequences = 1, QueryBlocks? few = null, QueryBlocks some = default, QueryBlocks many = default) =>
            new(memory, tokens, segments, sums, sequences, new BlockCounts(few ?? new(1, 4), some, many));
    }
}
