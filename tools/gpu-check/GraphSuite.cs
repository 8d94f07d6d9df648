using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Measuring;
using KvCacheGpu.TestKit;
using Xunit;

namespace KvCacheGpu.GpuCheck;

/// <summary>Steps of a host on CUDA that are captured once for each shape and replayed.</summary>
public sealed class GraphSuite
{
    private const int PageTokens = 8;

    private static Accelerator Accelerator => TargetUnderTest.Target.Accelerator!;

    /// <summary>Formats of pages, width of keys and values, query heads of the model, and its policy if it has one.</summary>
    public static TheoryData<PageFormat, PageFormat, int, int, bool> Models => new()
    {
        { PageFormat.F16, PageFormat.F16, 64, 4, false },
        { PageFormat.I8, PageFormat.I8, 16, 4, true },
        { PageFormat.T4, PageFormat.V4, 16, 2, false },
        { PageFormat.F32, PageFormat.F32, 16, 4, false },
    };

    /// <summary>Pages are sealed, tables grow and rows come to more segments: each step has the bits that its calls give without a graph.</summary>
    [Theory]
    [MemberData(nameof(Models))]
    public void A_replayed_step_has_the_bits_of_its_calls(PageFormat key, PageFormat value, int width, int queryHeads, bool evicts)
    {
        const int Steps = 80;
        KvGeometry geometry = Shape(width, queryHeads);
        using KvCache plain = Cache(geometry, key, value, evicts), replayed = Cache(geometry, key, value, evicts);
        using var expected = new Host(plain);
        using var host = new Host(replayed);
        for (int step = 0; step < Steps; step++)
        {
            Assert.Equal(expected.Step(step, graphs: false), host.Step(step, graphs: true));
        }

        replayed.Settle();
        plain.Settle();
        Assert.Equal(plain.GetPageCounts(), replayed.GetPageCounts());
        Assert.True(replayed.GetPageCounts().Sealed > 0, "no page was sealed");

        // 24 tokens a segment: 1, 2 and 4 of them; steps that wait for their outcome have other memory, and queries are added up until scales are known.
        Assert.Equal([1, 2, 4], host.Graphs.Keys.Select(shape => shape.Segments).Distinct().Order());
        Assert.InRange(host.Graphs.Count, 3, 12);
    }

    /// <summary>Steps that are enqueued ahead have working memory of their own, and graphs of their own for it.</summary>
    [Fact]
    public void Steps_that_are_enqueued_ahead_are_replayed_in_their_order()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache plain = Cache(geometry, PageFormat.I8, PageFormat.I8), replayed = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var expected = new Host(plain);
        using var host = new Host(replayed);
        KvSequence[] others = [.. Enumerable.Range(0, 2).Select(_ => replayed.CreateSequence())];
        for (int step = 0; step < 24; step++)
        {
            foreach (KvSequence other in others)
            {
                host.Enqueue(other, step, graphs: true);
            }

            Assert.Equal(expected.Step(step, graphs: false), host.Step(step, graphs: true));
        }

        Array.ForEach(others, other => other.Dispose());
    }

    /// <summary>A replay is one launch: no kernel outside of the graph, no copy, no wait, no managed memory.</summary>
    [Fact]
    public void A_replay_launches_one_graph_and_nothing_else()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache cache = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var host = new Host(cache);
        for (int step = 0; step < 12; step++)
        {
            host.Step(step, graphs: true);
        }

        host.Tensors.Write(host.Stream, 12, place: 0);
        using KvStep open = host.Sequence.Begin([12], host.Stream);
        KvStepGraph graph = host.Graphs[open.Shape];
        DriverCounts before = DriverCounters.Now;
        long bytes = GC.GetAllocatedBytesForCurrentThread();
        int collections = GC.CollectionCount(0);
        open.Replay(graph);
        bytes = GC.GetAllocatedBytesForCurrentThread() - bytes;
        DriverCounts replay = DriverCounters.Now - before;
        Assert.True(bytes == 0 || collections != GC.CollectionCount(0), $"{bytes} bytes");
        Assert.Equal(new DriverCounts(0, 0, 0, 0, DriverCounters.Count ? 1ul : 0), replay);
        open.Commit();
        Assert.Equal(13, host.Sequence.Length);
    }

    /// <summary>The host's own capture holds kernels of the host and of the cache; the cache launches the host's graph in the order of all work.</summary>
    [Fact]
    public void A_graph_that_the_host_captures_has_the_hosts_kernels_too()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache plain = Cache(geometry, PageFormat.I8, PageFormat.I8), replayed = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var expected = new Host(plain);
        using var host = new Host(replayed);
        var graphs = new Dictionary<KvStepShape, KvStepGraph>();
        nint stream = ((CudaStream)host.Stream).StreamPtr;
        for (int step = 0; step < 40; step++)
        {
            using (KvStep open = host.Sequence.Begin([step], host.Stream))
            {
                if (!graphs.TryGetValue(open.Shape, out KvStepGraph? graph))
                {
                    open.BeginCapture(byHost: true);
                    HostCapture.Begin(stream);

                    // The host's kernel writes the same tensors in each replay.
                    host.Tensors.Write(host.Stream, 5, place: 0);
                    host.Tensors.Layers(open, place: 0);
                    graphs.Add(open.Shape, graph = open.EndCapture(HostCapture.End(stream)));
                }

                Assert.Equal((0, geometry.Layers), (graph.FirstLayer, graph.EndLayer));
                open.Replay(graph);
                open.EnqueueCommit();
            }

            float[] output = host.Read();
            Assert.Equal(expected.Step(step, graphs: false, content: 5), output);
        }
    }

    /// <summary>A step of another shape is refused by an error that names both; it goes on by its calls.</summary>
    [Fact]
    public void A_step_of_another_shape_is_refused()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache cache = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var host = new Host(cache);
        host.Step(0, graphs: true);
        KvStepGraph graph = host.Graphs.Values.Single();
        using (KvStep open = cache.Begin([host.Sequence], [1, 2], [2], host.Stream))
        {
            ArgumentException refused = Assert.Throws<ArgumentException>(() => open.Replay(graph));
            Assert.Contains("1 sequences, 2 tokens", refused.Message, StringComparison.Ordinal);
            Assert.Contains("1 sequences, 1 tokens", refused.Message, StringComparison.Ordinal);
            Assert.Throws<KvStepOrderException>(open.Commit);
        }

        using (KvStep open = host.Sequence.Begin([1], host.Stream))
        {
            host.Tensors.Layers(open, place: 0);
            Assert.Throws<KvStepOrderException>(() => open.Replay(graph));
            open.Commit();
        }

        using KvStep last = host.Sequence.Begin([2], host.Stream);
        graph.Dispose();
        Assert.Throws<ObjectDisposedException>(() => last.Replay(graph));
    }

    /// <summary>What a graph cannot hold is refused by name, and the step goes on by its calls.</summary>
    [Fact]
    public void What_no_graph_can_hold_is_refused_by_name()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache cache = Cache(geometry, PageFormat.I8, PageFormat.I8), plain = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var host = new Host(cache);
        using var expected = new Host(plain);
        using AcceleratorStream other = Accelerator.CreateStream();
        float[] floats = new float[geometry.KvHeads * geometry.KeyWidth];
        host.Tensors.Write(host.Stream, 0, place: 0);
        using KvStep open = host.Sequence.Begin([0], host.Stream);
        Assert.Throws<KvStepOrderException>(() => open.EndCapture());
        open.BeginCapture();
        Assert.Contains("keys in host memory", Assert.Throws<KvUnsupportedException>(() => open.Append(0, floats, floats)).Message, StringComparison.Ordinal);
        Assert.Contains("another stream", Assert.Throws<KvUnsupportedException>(() => host.Tensors.Layers(open, 0, other)).Message, StringComparison.Ordinal);
        host.Tensors.Layers(open, place: 0);
        Assert.Throws<KvStepOrderException>(() => open.ReadLayer(0, 0, floats, floats));
        Assert.Throws<KvStepOrderException>(open.Commit);
        Assert.Throws<KvStepOrderException>(() => open.BeginCapture());
        Assert.Throws<KvStepOrderException>(() => open.EndCapture(hostGraph: 1));
        using KvSequence second = cache.CreateSequence();
        Assert.Contains("captured", Assert.Throws<KvStepOrderException>(() => second.Begin([1], host.Stream)).Message, StringComparison.Ordinal);

        // The host waits for its stream, which the driver answers by breaking the capture off.
        Assert.Throws<CudaException>(host.Stream.Synchronize);
        Assert.Throws<KvStepOrderException>(() => open.EndCapture());
        host.Tensors.Layers(open, place: 0);
        open.Commit();
        Assert.Equal(expected.Step(0, graphs: false), host.Read());
        using KvStep onDefault = host.Sequence.Begin([1]);
        Assert.Throws<KvUnsupportedException>(() => onDefault.BeginCapture());
    }

    /// <summary>While one thread captures, steps of another go on; a step that is disposed within a capture leaves its stream free.</summary>
    [Fact]
    public void Other_threads_go_on_while_one_captures()
    {
        KvGeometry geometry = Shape(16, 4);
        using KvCache cache = Cache(geometry, PageFormat.I8, PageFormat.I8), plain = Cache(geometry, PageFormat.I8, PageFormat.I8);
        using var one = new Host(cache);
        using var two = new Host(cache);
        using var expected = new Host(plain);
        var found = new List<float[]>();
        using (KvStep open = one.Sequence.Begin([0], one.Stream))
        {
            open.BeginCapture();
            var thread = new Thread(() => found.AddRange(Enumerable.Range(0, 20).Select(step => two.Step(step, graphs: false))));
            thread.Start();
            one.Tensors.Layers(open, place: 0);
            thread.Join();
        }

        Assert.Equal(0, one.Sequence.Length);
        Assert.Equal(Enumerable.Range(0, 20).Select(step => expected.Step(step, graphs: false)), found);
        Assert.Equal(found.Take(3), Enumerable.Range(0, 3).Select(step => one.Step(step, graphs: true)));
    }

    private static KvGeometry Shape(int width, int queryHeads) => new(layers: 3, queryHeads, kvHeads: 2, keyWidth: width, pageTokens: PageTokens);

    private static KvCache Cache(KvGeometry geometry, PageFormat key, PageFormat value, bool evicts = false)
    {
        var options = new KvCacheOptions
        {
            MaxTokens = 256,
            MaxSequences = 4,
            MaxBatchTokens = 8,
            KeyFormat = key,
            ValueFormat = value,
            FullPrecision = key == PageFormat.F32 ? PageFormat.F32 : PageFormat.F16,
            ExactRollbackTokens = 4,
            Policy = evicts ? new WindowPolicy(72) { SinkTokens = 8 } : null,
        };
        return new KvCache(geometry, options, (shape, bytes, _) => SplittingTier.AsHosts(Accelerator, shape, bytes));
    }

    /// <summary>A host of one sequence, whose tensors lie at the same addresses in each step.</summary>
    private sealed class Host : IDisposable
    {
        public Host(KvCache cache)
        {
            Sequence = cache.CreateSequence();
            Tensors = new HostTensors(Accelerator, cache.Geometry, steps: 1);
        }

        public AcceleratorStream Stream { get; } = Accelerator.CreateStream();

        public KvSequence Sequence { get; }

        public HostTensors Tensors { get; }

        public Dictionary<KvStepShape, KvStepGraph> Graphs { get; } = [];

        /// <summary>A step of one token, by its calls or by a graph; returns its outputs.</summary>
        public float[] Step(int step, bool graphs, int content = -1)
        {
            Enqueue(Sequence, step, graphs, content);
            return Read();
        }

        /// <summary>The same for any sequence, without waiting.</summary>
        public void Enqueue(KvSequence sequence, int step, bool graphs, int content = -1)
        {
            Tensors.Write(Stream, content < 0 ? step : content, place: 0);
            using KvStep open = sequence.Begin([step], Stream);
            if (!graphs)
            {
                Tensors.Layers(open, place: 0);
            }
            else
            {
                if (!Graphs.TryGetValue(open.Shape, out KvStepGraph? graph))
                {
                    open.BeginCapture();
                    Tensors.Layers(open, place: 0);
                    Graphs.Add(open.Shape, graph = open.EndCapture());
                }

                open.Replay(graph);
            }

            open.EnqueueCommit();
        }

        /// <summary>The outputs of the last step.</summary>
        public float[] Read()
        {
            Stream.Synchronize();
            return [.. Tensors.Outputs().SelectMany(output => output)];
        }

        public void Dispose()
        {
            Sequence.Dispose();
            foreach (KvStepGraph graph in Graphs.Values)
            {
                graph.Dispose();
            }

            Stream.Dispose();
            Tensors.Dispose();
        }
    }
}
