using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
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
