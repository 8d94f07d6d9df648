using System.Runtime.InteropServices;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The kernels of CUDA devices that merge partial results, score pages and leave squares, beside the portable ones on the same device.</summary>
public sealed unsafe class CudaStepTests(CudaMoveTests.Device device) : IClassFixture<CudaMoveTests.Device>
{
    private static readonly PageFormat[] _formats = [PageFormat.F16, PageFormat.I8];

    /// <summary>Query heads of a KV head in every remainder; pages in several leaves; holes, windows, and rows whose entries are no multiple of four.</summary>
    [CudaTheory]
    [InlineData(1, 0)]
    [InlineData(2, 19)]
    [InlineData(3, 0)]
    [InlineData(4, 0)]
    [InlineData(7, 11)]
    public void Scores_are_those_of_the_portable_kernel_bit_for_bit(int heads, int window)
    {
        var geometry = new KvGeometry(2, 2 * heads, 2, 64, pageTokens: 4);
        List<PageScores> expected = Scores(geometry, window, isOwn: false), got = Scores(geometry, window, isOwn: true);
        Assert.Equal(expected, got);
        Assert.True(expected.Count(s => s.Uses > 0) > 4 && expected.Exists(s => s.Mass > 0 && s.Uses == 0), "expected pages that were used, and others");
    }

    public static TheoryData<int, TensorType, int> Merges
    {
        get
        {
            var cases = new TheoryData<int, TensorType, int>();
            foreach (TensorType type in Enum.GetValues<TensorType>())
            {
                cases.Add(64, type, 0);
                cases.Add(80, type, 16);
                cases.Add(128, type, 8);
                cases.Add(512, type, 0);
            }

            return cases;
        }
    }

    /// <summary>Segments of one page each, in two formats of which one is rotated; outputs at multiples of 16 bytes and, at offset 8, at others.</summary>
    [CudaTheory]
    [MemberData(nameof(Merges))]
    public void Merged_outputs_are_those_of_the_portable_kernel(int width, TensorType type, int offset)
    {
        var geometry = new KvGeometry(1, 6, 2, 64, width, pageTokens: 4);
        float[] expected = Merged(geometry, type, offset, isOwn: false), got = Merged(geometry, type, offset, isOwn: true);
        double norm = Math.Sqrt(expected.Average(x => (double)x * x));
        double most = expected.Zip(got, (a, b) => Math.Abs((double)a - b)).Max();
        Assert.True(most <= norm * (type == TensorType.F32 ? 1e-6 : type == TensorType.F16 ? 4e-3 : 3e-2) && norm > 0, $"error {most} of {norm}");
    }

    /// <summary>Keys and values take a launch each, and read what they take the squares of once. Beyond a group of 256 threads the portable kernel takes those of the values.</summary>
    [CudaTheory]
    [InlineData(64, 64, 128, 2)]
    [InlineData(128, 256, 64, 2)]
    [InlineData(64, 256, 128, 3)]
    [InlineData(48, 48, 64, 4)]
    public void A_seal_leaves_squares_without_launches_for_them(int keyWidth, int valueWidth, int pageTokens, ulong launches)
    {
        var geometry = new KvGeometry(1, 1, 1, keyWidth, valueWidth, pageTokens: pageTokens);
        using var harness = new TierHarness(Own, Shapes.Mixed(geometry, PageFormat.F16, PageFormat.I8, PageFormat.I8), 12);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, pageTokens, 5));
        harness.Begin((sequence, pageTokens));
        harness.Append(0);
        Assert.Null(harness.End());
        int source = sequence.Rows[0, 0][0].Slot;
        DecodedPage page = harness.Decode(source, KernelShape.Open, pageTokens - 3);
        ulong before = Launches();
        harness.Tier.Transcode([new PageMove(source, KernelShape.Open, harness.TakeSlot(), KernelShape.Sealed, pageTokens - 3, harness.ScoreWord(sequence, 0, 0, 0))]);
        harness.Tier.Synchronize();
        Assert.Equal(launches, Launches() - before);
        PageScores scores = harness.ReadScores(sequence, 0, 0, 0);
        Near(page.Keys, scores.KeySquare);
        Near(page.Values, scores.ValueSquare);
    }

    private static void Near(IReadOnlyList<double[]> vectors, float got)
    {
        double expected = vectors.Average(v => v.Sum(x => x * x));
        Assert.InRange(got, expected * (1 - 1e-5), expected * (1 + 1e-5));
    }

    private List<PageScores> Scores(KvGeometry geometry, int window, bool isOwn)
    {
        using var harness = new TierHarness((s, bytes) => Tier(s, bytes, merges: false, scores: isOwn), Shapes.Encoded(geometry, PageFormat.F16), 600);
        HarnessSequence[] sequences = [.. new[] { 90, 40 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 60 + i)))];
        harness.Fill(sequences[0], 70);
        harness.Fill(sequences[1], 9);

        // 15 entries are left; behind them the table still says what it said.
        harness.Drop(sequences[0], 2);
        harness.Drop(sequences[0], 9);
        harness.Drop(sequences[0], 12);
        for (int step = 1; step < 4; step++)
        {
            harness.Begin((sequences[0], 1), (sequences[1], step));
            for (int layer = 0; layer < geometry.Layers - (step % 2); layer++)
            {
                harness.Append(layer);
                _ = harness.Attend(layer, window);
            }

            if (step % 2 == 1)
            {
                harness.Append(1);
            }

            harness.Score(0.75f, step);
            Assert.Null(harness.End());
        }

        return
        [
            .. from sequence in sequences
               from row in sequence.LayerHeads
               from page in sequence.Rows[row.Layer, row.Head]
               select harness.ReadScores(sequence, row.Layer, row.Head, page.PageIndex),
        ];
    }

    private float[] Merged(KvGeometry geometry, TensorType type, int offset, bool isOwn)
    {
        KernelShape shape = Shapes.Mixed(geometry, _formats[0], _formats[1], _formats[1]);
        using var harness = new TierHarness((s, bytes) => Tier(s, bytes, merges: isOwn, scores: false), shape, 200);
        HarnessSequence[] sequences = [.. new[] { 70, 20 }.Select((tokens, i) => harness.Add(new SequenceData(geometry, tokens, 30 + i)))];
        harness.Fill(sequences[0], 61);
        harness.Fill(sequences[1], 5);
        harness.Begin((sequences[0], 3), (sequences[1], 6));
        harness.Append(0);
        int elements = 9 * geometry.QueryHeads * geometry.ValueWidth;
        using DeviceBytes output = DeviceBytes.On(harness.Tier, new byte[elements * (type == TensorType.F32 ? 4 : 2)], offset);
        harness.AttendTo(0, KvTensor.FromHost(harness.Queries(0)), output.Output(type, byAddress: false));
        float[] got = TypedNumbers.Numbers(output.Read(), type);
        Assert.Null(harness.End());
        return got;
    }

    private PortableTier Own(KernelShape shape, long bytes) => new(device.Accelerator, shape, bytes, 0, null, tensors: null, CudaMoves.For(device.Accelerator));

    private PortableTier Tier(KernelShape shape, long bytes, bool merges, bool scores) =>
        new(device.Accelerator, shape, bytes, 0, null, tensors: null, new Chosen(CudaMoves.For(device.Accelerator)!, merges, scores)) { SegmentTokens = 1 };

    // 0 where the driver counts nothing.
    private static ulong Launches()
    {
        ulong launches = 0;
        if (NativeLibrary.TryLoad("libcuda.so.1", out nint library) && NativeLibrary.TryGetExport(library, "simcudaCounters", out nint found))
        {
            _ = ((delegate* unmanaged<ulong*, int, int>)found)(&launches, 1);
        }

        return launches;
    }

    /// <summary>Of a device's kernels those that a test looks at.</summary>
    private sealed class Chosen(CudaMoves inner, bool merges, bool scores) : IMoveKernels
    {
        public IPartMove? Move(PartPair pair) => null;

        public IAppendKernel? Append(KvGeometry geometry, PageLayout open) => null;

        public MergeLauncher Merge(KvGeometry geometry, MergeLauncher portable) => merges ? inner.Merge(geometry, portable) : portable;

        public ScoreLauncher? Score() => scores ? inner.Score() : null;
    }
}
