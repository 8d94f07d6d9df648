using ILGPU.Runtime;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>How attention divides rows where that is chosen by measurement.</summary>
public sealed class CudaChoiceTests(CudaMoveTests.Device device) : IClassFixture<CudaMoveTests.Device>
{
    private const int SegmentTokens = 16;
    private const int Variants = 4;
    private const int Trials = Variants * SplitChoice.Rounds;

    // Tokens of a segment of each variant.
    private static readonly int[] _tokens = [SegmentTokens, SegmentTokens / 2, 2 * SegmentTokens, 4 * SegmentTokens];

    private static readonly KvGeometry _geometry = new(1, 4, 2, 64, pageTokens: 4);

    /// <summary>Each way takes its turns, and the one that the clock calls the fastest is taken from then on: the bits are those of a tier that has no other.</summary>
    [CudaTheory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void The_fastest_way_is_taken(int fastest)
    {
        float[][] ofVariants = [.. _tokens.Select(tokens => Attended(tokens, null, 1)[0])];
        Assert.Equal(Variants, ofVariants.Select(o => string.Join(' ', o)).Distinct().Count());
        var clock = new Clock(fastest);
        float[][] got = Attended(SegmentTokens, new SplitChoice(clock), Trials + 3);
        Assert.Equal(2 * Trials, clock.Marks);
        for (int i = 0; i < got.Length; i++)
        {
            Assert.Equal(ofVariants[i < Trials ? i % Variants : fastest], got[i]);
        }
    }

    /// <summary>While the device has not come to a mark the first way is taken, and no more launches are timed than the trials need.</summary>
    [CudaFact]
    public void Nothing_waits_for_times()
    {
        float[] first = Attended(SegmentTokens, null, 1)[0];
        var clock = new Clock(3) { IsBehind = true };
        float[][] got = Attended(SegmentTokens, new SplitChoice(clock), Trials + 2);
        Assert.Equal(2 * Trials, clock.Marks);
        Assert.Equal([first, first], got[^2..]);
    }

    /// <summary>A capture takes no time and no turns: it has the first way, or what was found. A graph that was captured before keeps its way.</summary>
    [CudaFact]
    public void A_capture_is_not_measured()
    {
        float[][] ofVariants = [.. _tokens.Select(tokens => Attended(tokens, null, 1)[0])];
        var clock = new Clock(2);
        using TierHarness harness = Filled(SegmentTokens, new SplitChoice(clock));
        using AcceleratorStream stream = device.Accelerator.CreateStream();
        using KernelBatch batch = harness.Tier.CreateBatch(1, 4);
        using DeviceBytes queries = DeviceBytes.On(harness.Tier, TypedNumbers.Bytes(harness.Queries(0), TensorType.F32));
        using DeviceBytes output = DeviceBytes.On(harness.Tier, new byte[4 * _geometry.QueryHeads * _geometry.ValueWidth]);
        batch.Begin(harness.Ragged, stream);
        using KvStepGraph before = Capture();
        Assert.Equal(0, clock.Marks);
        Assert.Equal(ofVariants[0], Replay(before));
        for (int i = 0; i <= Trials; i++)
        {
            batch.Attend(0, queries.Tensor(TensorType.F32, byAddress: false), output.Output(TensorType.F32, byAddress: false));
        }

        Assert.Equal(ofVariants[2], TypedNumbers.Numbers(output.Read(), TensorType.F32));
        using KvStepGraph after = Capture();
        Assert.Equal(2 * Trials, clock.Marks);
        Assert.Equal(before.Shape, after.Shape);
        Assert.Equal(ofVariants[2], Replay(after));
        Assert.Equal(ofVariants[0], Replay(before));
        Assert.Null(batch.End());

        KvStepGraph Capture()
        {
            batch.BeginCapture(0, isByHost: false);
            batch.Attend(0, queries.Tensor(TensorType.F32, byAddress: false), output.Output(TensorType.F32, byAddress: false));
            return batch.EndCapture();
        }

        float[] Replay(KvStepGraph graph)
        {
            batch.Replay(graph);
            return TypedNumbers.Numbers(output.Read(), TensorType.F32);
        }
    }

    /// <summary>A row that has as many segments as rows may have is of one shape however long it grows: a graph with longer segments than usual launches as many.</summary>
    [CudaFact]
    public void A_graph_with_long_segments_covers_rows_that_grow()
    {
        using TierHarness harness = Filled(_geometry.PageTokens, new SplitChoice(new Clock(3)), out HarnessSequence sequence);
        using AcceleratorStream stream = device.Accelerator.CreateStream();
        using KernelBatch batch = harness.Tier.CreateBatch(1, 4);
        using DeviceBytes queries = DeviceBytes.On(harness.Tier, TypedNumbers.Bytes(harness.Queries(0), TensorType.F32));
        using DeviceBytes output = DeviceBytes.On(harness.Tier, new byte[4 * _geometry.QueryHeads * _geometry.ValueWidth]);
        batch.Begin(harness.Ragged, stream);
        for (int i = 0; i <= Trials; i++)
        {
            Attend();
        }

        batch.BeginCapture(0, isByHost: false);
        Attend();
        using KvStepGraph graph = batch.EndCapture();
        Assert.Null(batch.End());
        Assert.Null(harness.End());
        harness.Fill(sequence, 219);
        harness.Begin((sequence, 1));
        harness.Append(0);
        batch.Begin(harness.Ragged, stream);
        Assert.Equal(graph.Shape, batch.StepShape);
        Attend();
        byte[] expected = output.Read();
        batch.Replay(graph);
        Assert.Equal(expected, output.Read());
        Assert.Null(batch.End());

        void Attend() => batch.Attend(0, queries.Tensor(TensorType.F32, byAddress: false), output.Output(TensorType.F32, byAddress: false));
    }

    /// <summary>With the device's own clock, which may find any way the fastest; without the option there is no choice.</summary>
    [CudaFact]
    public void The_devices_clock_tells_times()
    {
        float[][] ofVariants = [.. _tokens.Select(tokens => Attended(tokens, null, 1)[0])];
        using var link = new DeviceLink(device.Accelerator, null);
        using DeviceBinding bound = link.Bind();
        nint start = link.Clock!.Mark(device.Accelerator.DefaultStream);
        nint end = link.Clock.Mark(device.Accelerator.DefaultStream);
        device.Accelerator.Synchronize();
        Assert.InRange(link.Clock.Between(start, end)!.Value, 0f, float.MaxValue);
        Assert.Contains(link.Clock.Mark(device.Accelerator.DefaultStream), new[] { start, end });
        float[][] got = Attended(SegmentTokens, new SplitChoice(link.Clock), Trials + 2);
        Assert.Equal(got[^2], got[^1]);
        Assert.Contains(got[^1], ofVariants);
        foreach (bool measures in new[] { false, true })
        {
            using var tier = new PortableTier(device.Accelerator, Shapes.Plain(_geometry, PageFormat.F16) with { MeasuresKernels = measures }, 1 << 22);
            Assert.Equal(measures, tier.Splits is not null);
        }
    }

    // What each of several calls gives.
    private float[][] Attended(int segmentTokens, SplitChoice? choice, int calls)
    {
        using TierHarness harness = Filled(segmentTokens, choice);
        float[][] got = [.. Enumerable.Range(0, calls).Select(_ => harness.Attend(0).Output)];
        Assert.Null(harness.End());
        return got;
    }

    // A step of one token behind 180.
    private TierHarness Filled(int segmentTokens, SplitChoice? choice) => Filled(segmentTokens, choice, out _);

    private TierHarness Filled(int segmentTokens, SplitChoice? choice, out HarnessSequence sequence)
    {
        var harness = new TierHarness(
            (s, bytes) => new PortableTier(device.Accelerator, s, bytes) { SegmentTokens = segmentTokens, Splits = choice }, Shapes.Plain(_geometry, PageFormat.F16, capacity: 128), 400);
        sequence = harness.Add(new SequenceData(_geometry, 401, 8));
        harness.Fill(sequence, 180);
        harness.Begin((sequence, 1));
        harness.Append(0);
        return harness;
    }

    /// <summary>A clock by which one way is faster than the others.</summary>
    private sealed class Clock(int fastest) : IDeviceClock
    {
        public int Marks { get; private set; }

        public bool IsBehind { get; init; }

        public nint Mark(AcceleratorStream stream) => ++Marks;

        public float? Between(nint start, nint end) => IsBehind ? null : ((int)start - 1) / 2 % Variants == fastest ? 1f : 2f;
    }
}
