using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Measuring;
using KvCacheGpu.TestKit;
using Xunit;

namespace KvCacheGpu.GpuCheck;

/// <summary>A host of its own accelerator and streams, whose tensors never leave the device.</summary>
public sealed class HostSuite
{
    private const int PageTokens = 8;

    // Relative to an output's norm: both tiers are within half of this bound from the oracle.
    private const double Bound = 2e-5;

    private static Accelerator Accelerator => TargetUnderTest.Target.Accelerator!;

    /// <summary>Formats of pages, and if the commit waits.</summary>
    public static TheoryData<PageFormat, PageFormat, bool> Formats => new()
    {
        { PageFormat.F16, PageFormat.F16, false },
        { PageFormat.I8, PageFormat.I8, false },
        { PageFormat.T4, PageFormat.V4, false },
        { PageFormat.I8, PageFormat.I8, true },
    };

    /// <summary>100 steps of 4 layers on the host's stream: no thread waits inside of a step, and nothing is copied that grows with the tensors.</summary>
    [Fact]
    public void A_decode_on_the_hosts_stream_neither_copies_tensors_nor_waits_inside_of_its_steps()
    {
        int steps = TargetUnderTest.Target.IsEmulator ? 20 : 100;
        KvGeometry geometry = Shape(64);
        (DriverCounts inside, float[][] outputs, float[][] expected) = Decode(geometry, steps, PageFormat.I8, PageFormat.I8, waits: false);
        AssertNear(expected, outputs);
        Assert.Equal(0ul, inside.Waits);

        // What a step copies says where its pages are: less than the keys of one token of one layer.
        ulong keys = (ulong)(geometry.KvHeads * geometry.KeyWidth * sizeof(float));
        Assert.InRange(inside.ToDevice + inside.ToHost, 0ul, (ulong)steps * keys);
        Assert.True(!DriverCounters.Count || inside.ToDevice > 0, "the driver counts nothing");
    }

    /// <summary>Decodes in all kinds of formats, committed with and without waiting.</summary>
    [Theory]
    [MemberData(nameof(Formats))]
    public void A_decode_on_the_hosts_stream_attends_as_on_the_reference(PageFormat key, PageFormat value, bool waits)
    {
        (_, float[][] outputs, float[][] expected) = Decode(Shape(16), 40, key, value, waits);
        AssertNear(expected, outputs);
    }

    /// <summary>Key scales are learned of queries that no host has seen, in the one commit that waits, and T pages are sealed and read under them.</summary>
    [Fact]
    public void Key_scales_are_learned_from_what_the_device_alone_has_seen()
    {
        const int Steps = 40;
        KvGeometry geometry = Shape(16);
        KvCacheOptions options = Options(PageFormat.T4, PageFormat.V4);
        options.ExactRollbackTokens = 12;
        using var cache = new KvCache(geometry, options, Accelerator);
        using var reference = new KvCache(geometry, options, (shape, bytes, observer) => new ReferenceTier(shape, bytes, observer));
        using AcceleratorStream stream = Accelerator.CreateStream();
        using KvSequence sequence = cache.CreateSequence(), expected = reference.CreateSequence();
        using var tensors = new HostTensors(Accelerator, geometry, Steps, hasOutliers: true);
        for (int step = 0; step < Steps; step++)
        {
            tensors.Write(stream, step);
            tensors.Step(sequence, step, stream);
        }

        stream.Synchronize();
        cache.Settle();
        AssertNear(tensors.Expected(expected, Steps), tensors.Outputs());
        Assert.Equal(reference.KeyScales!.Exponents, cache.KeyScales!.Exponents);
        Assert.False(cache.KeyScales.IsNone);
    }

    /// <summary>Steps on two streams in turn, and tensors that a third stream writes: all in order, without the host.</summary>
    [Fact]
    public void Steps_on_streams_in_turn_see_each_others_pages()
    {
        KvGeometry geometry = Shape(16);
        using KvCache cache = OnDevice(geometry, PageFormat.I8, PageFormat.I8);
        using KvCache reference = OnReference(geometry, PageFormat.I8, PageFormat.I8);
        using AcceleratorStream one = Accelerator.CreateStream(), two = Accelerator.CreateStream(), writing = Accelerator.CreateStream();
        using KvSequence sequence = cache.CreateSequence(), expected = reference.CreateSequence();
        using var tensors = new HostTensors(Accelerator, geometry, steps: 30);
        for (int step = 0; step < 30; step++)
        {
            tensors.Write(writing, step);
            if (step % 4 == 3)
            {
                // A stream of this step alone: the cache does not touch it any longer once the step is enqueued.
                AcceleratorStream brief = Accelerator.CreateStream();
                tensors.Step(sequence, step, brief, of: writing);
                brief.Dispose();
                continue;
            }

            tensors.Step(sequence, step, (step % 4) switch { 0 => one, 1 => two, _ => default(KvStream) }, of: writing);
        }

        cache.Settle();
        Accelerator.Synchronize();
        AssertNear(tensors.Expected(expected, 30), tensors.Outputs());
    }

    /// <summary>A step whose keys are not finite is rolled back by the next one, and its error is told there.</summary>
    [Fact]
    public void A_refused_step_is_told_by_the_next_one()
    {
        KvGeometry geometry = Shape(16);
        using KvCache cache = OnDevice(geometry, PageFormat.I8, PageFormat.I8);
        using AcceleratorStream stream = Accelerator.CreateStream();
        using KvSequence sequence = cache.CreateSequence();
        using var tensors = new HostTensors(Accelerator, geometry, steps: 12);
        for (int step = 0; step < 10; step++)
        {
            tensors.Write(stream, step);
            tensors.Step(sequence, step, stream);
        }

        tensors.Write(stream, 10, isNan: true);
        tensors.Step(sequence, 10, stream);
        Assert.Equal(11, sequence.Length);
        tensors.Write(stream, 10);
        KvNonFiniteException refused = Assert.Throws<KvNonFiniteException>(() => tensors.Step(sequence, 10, stream));
        Assert.Equal((0, 0, false), (refused.Layer, refused.Token, refused.IsValue));
        Assert.Equal(10, sequence.Length);
        tensors.Step(sequence, 10, stream);
        tensors.Write(stream, 11);
        tensors.Step(sequence, 11, stream);
        stream.Synchronize();
        cache.Settle();
        using KvCache reference = OnReference(geometry, PageFormat.I8, PageFormat.I8);
        using KvSequence expected = reference.CreateSequence();
        AssertNear(tensors.Expected(expected, 12), tensors.Outputs());
    }

    /// <summary>A stream of another accelerator or context is refused, and nothing has changed.</summary>
    [Fact]
    public void A_stream_of_another_context_is_refused()
    {
        KvGeometry geometry = Shape(16);
        using KvCache cache = OnDevice(geometry, PageFormat.F16, PageFormat.F16);
        using KvSequence sequence = cache.CreateSequence();
        using Accelerator other = Accelerator.Device.CreateAccelerator(Accelerator.Context);
        using AcceleratorStream stream = other.CreateStream();
        Assert.Throws<ArgumentException>(() => sequence.Begin([1], stream));
        nint handle = stream is CudaStream cuda ? cuda.StreamPtr : 1234;
        Assert.Throws<ArgumentException>(() => sequence.Begin([1], KvStream.FromCuda(handle)));
        AcceleratorStream gone = Accelerator.CreateStream();
        gone.Dispose();
        Assert.Throws<ObjectDisposedException>(() => sequence.Begin([1], gone));
        Assert.Equal(0, sequence.Length);
        using KvStep step = sequence.Begin([1]);
        Assert.Equal(1, step.Tokens);
    }

    /// <summary>
    /// A thread that waits for its own work marks the order beside others that are about to enqueue: what they enqueue is behind all that came before,
    /// and what another stream does next is behind it.
    /// </summary>
    [Fact]
    public void Work_that_follows_a_mark_is_in_the_order_too() => Assert.Equal(Enumerable.Repeat(7, 64), StreamOrderProbe.CopyBehindAMark(Accelerator));

    /// <summary>A call whose output is refused has left the host's stream all the same: the host may destroy it.</summary>
    [Fact]
    public void A_refused_read_leaves_the_stream_to_its_host()
    {
        KvGeometry geometry = Shape(16);
        using KvCache cache = OnDevice(geometry, PageFormat.I8, PageFormat.I8);
        using KvSequence sequence = cache.CreateSequence();
        using var tensors = new HostTensors(Accelerator, geometry, steps: 2);
        tensors.Write(Accelerator.DefaultStream, 0);
        tensors.Step(sequence, 0, default);
        using (AcceleratorStream brief = Accelerator.CreateStream())
        {
            KvStream named = brief is CudaStream cuda ? KvStream.FromCuda(cuda.StreamPtr) : brief;
            Assert.Throws<ArgumentException>(() => tensors.Misread(sequence, named));
        }

        tensors.Write(Accelerator.DefaultStream, 1);
        tensors.Step(sequence, 1, default);
        cache.Settle();
        Accelerator.Synchronize();
        using KvCache reference = OnReference(geometry, PageFormat.I8, PageFormat.I8);
        using KvSequence expected = reference.CreateSequence();
        AssertNear(tensors.Expected(expected, 2), tensors.Outputs());
    }

    /// <summary>Handle 2 of CUDA's names another stream on each thread: no order could be kept on it.</summary>
    [Fact]
    public void A_step_on_the_stream_of_each_thread_is_refused()
    {
        using KvCache cache = OnDevice(Shape(16), PageFormat.F16, PageFormat.F16);
        using KvSequence sequence = cache.CreateSequence();
        Assert.Throws<ArgumentException>(() => sequence.Begin([1], KvStream.FromCuda(2)));
        Assert.Equal(0, sequence.Length);
    }

    /// <summary>Two threads with a stream each step sequences of their own, with forks, steps that are abandoned and a save between, while a policy evicts.</summary>
    /// <param name="evicts">True if h2o drops pages under a budget, so that the outputs have no reference: they are finite then.</param>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Threads_on_streams_of_their_own_do_not_meet(bool evicts)
    {
        const int Steps = 40;
        KvGeometry geometry = Shape(16);
        KvCacheOptions options = Options(PageFormat.I8, PageFormat.I8);
        options.MaxSequences = 6;
        if (evicts)
        {
            options.Device = TargetUnderTest.Target.Device.Id;
            options.Policy = new H2oPolicy { SinkTokens = 8, WindowTokens = 8 };

            // Room for the working memory of several steps; of the pages' share, hardly any.
            options.MemoryBudgetBytes = KvCache.BytesFor(geometry, options).MinimumBytes * 3;
            options.Watermark = 0.001;
        }

        using var cache = new KvCache(geometry, options, Accelerator);
        string folder = Directory.CreateTempSubdirectory("host-").FullName;
        var store = new SnapshotStore(folder);
        var outputs = new float[2][][];
        var failures = new Exception?[2];
        Thread[] threads = [.. Enumerable.Range(0, 2).Select(i => new Thread(() => failures[i] = Record.Exception(() => Live(i))))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.All(failures, Assert.Null);
        Directory.Delete(folder, recursive: true);
        using KvCache reference = OnReference(geometry, PageFormat.I8, PageFormat.I8);
        using KvSequence expected = reference.CreateSequence();
        using var all = new HostTensors(Accelerator, geometry, Steps);
        float[][] right = all.Expected(expected, Steps);
        foreach (float[][] own in outputs)
        {
            Assert.All(own, output => Assert.All(output, x => Assert.True(float.IsFinite(x))));
            if (!evicts)
            {
                AssertNear(right, own);
            }
        }

        Assert.Equal(0, cache.GetPageCounts().Open);

        void Live(int thread)
        {
            using AcceleratorStream stream = Accelerator.CreateStream();
            using var tensors = new HostTensors(Accelerator, geometry, Steps);
            KvSequence sequence = cache.CreateSequence();
            for (int step = 0; step < Steps; step++)
            {
                tensors.Write(stream, step);
                if (step % 5 == 2)
                {
                    tensors.Step(sequence, step, stream, abandons: true);
                }

                tensors.Step(sequence, step, stream, waits: step % 11 == 10);
                if (step % 8 == 7)
                {
                    KvSequence fork = sequence.Fork();
                    sequence.Dispose();
                    sequence = fork;
                }

                if (step % 20 == 9 + thread)
                {
                    cache.SaveAsync(store, $"s{thread}-{step}", [sequence]).GetAwaiter().GetResult();
                }
            }

            Assert.Equal(Steps, sequence.Length);
            Assert.Equal(evicts, sequence.EvictedTokens > 0);
            sequence.Dispose();
            stream.Synchronize();
            outputs[thread] = tensors.Outputs();
        }
    }

    private static KvGeometry Shape(int width) => new(layers: 4, queryHeads: 4, kvHeads: 2, keyWidth: width, pageTokens: PageTokens);

    private static KvCacheOptions Options(PageFormat key, PageFormat value) => new()
    {
        MaxTokens = 256,
        MaxSequences = 2,
        MaxBatchTokens = 8,
        KeyFormat = key,
        ValueFormat = value,
        ExactRollbackTokens = 4,
    };

    private static KvCache OnDevice(KvGeometry geometry, PageFormat key, PageFormat value) =>
        new(geometry, Options(key, value), Accelerator);

    private static KvCache OnReference(KvGeometry geometry, PageFormat key, PageFormat value) =>
        new(geometry, Options(key, value), (shape, bytes, observer) => new ReferenceTier(shape, bytes, observer));

    // A host that reads a token between two steps waits for its stream there, and the cache finds the step before done.
    private static (DriverCounts Inside, float[][] Outputs, float[][] Expected) Decode(KvGeometry geometry, int steps, PageFormat key, PageFormat value, bool waits)
    {
        using KvCache cache = OnDevice(geometry, key, value);
        using KvCache reference = OnReference(geometry, key, value);
        using AcceleratorStream stream = Accelerator.CreateStream();
        using KvSequence sequence = cache.CreateSequence(), expected = reference.CreateSequence();
        using var tensors = new HostTensors(Accelerator, geometry, steps);
        DriverCounts inside = default;
        for (int step = 0; step < steps; step++)
        {
            tensors.Write(stream, step);
            DriverCounts before = DriverCounters.Now;
            tensors.Step(sequence, step, stream, waits: waits);
            inside += DriverCounters.Now - before;
            stream.Synchronize();
        }

        cache.Settle();
        Assert.Equal(steps, sequence.Length);
        Assert.True(cache.GetPageCounts().Sealed > 0, "no page was sealed");
        return (inside, tensors.Outputs(), tensors.Expected(expected, steps));
    }

    private static void AssertNear(float[][] expected, float[][] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            double norm = Math.Sqrt(expected[i].Sum(x => (double)x * x));
            double off = Math.Sqrt(expected[i].Zip(actual[i], (a, b) => (double)(a - b) * (a - b)).Sum());
            WorstError.Note(off / norm, Bound);
            Assert.True(off <= Bound * norm, $"output {i}: off by {off} of {norm}");
        }
    }
}
