using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The kernels of CUDA devices that seal and transcode, beside the portable ones on the same device: the same bytes everywhere in the pages.</summary>
public sealed class CudaMoveTests
{
    private static readonly (PageFormat Key, PageFormat Value)[] Sealed =
    [
        (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T3, PageFormat.V3), (PageFormat.T2, PageFormat.V2), (PageFormat.FP8, PageFormat.FP8),
    ];

    public static TheoryData<PageFormat, int, int, int> Cases => new()
    {
        { PageFormat.F16, 128, 64, 64 },
        { PageFormat.BF16, 64, 128, 16 },
        { PageFormat.F16, 80, 96, 12 },
        { PageFormat.BF16, 96, 80, 8 },
        { PageFormat.F16, 256, 192, 4 },
        { PageFormat.F16, 176, 256, 32 },
    };

    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void Pages_are_those_of_the_portable_kernels_byte_for_byte(PageFormat open, int keyWidth, int valueWidth, int pageTokens)
    {
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using Accelerator accelerator = context.Devices.OfType<CudaDevice>().First().CreateAccelerator(context);
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
        KernelShape shape = Shapes.Classes(geometry, open, [.. Sealed, (open, open)]);
        List<(string Move, bool Kept, byte[] Page)> expected = Written((s, bytes) => new PortableTier(accelerator, s, bytes), shape);
        List<(string Move, bool Kept, byte[] Page)> got = Written((s, bytes) => new PortableTier(accelerator, s, bytes, CudaMoves.For(accelerator)), shape);
        Assert.Equal(expected.Count, got.Count);
        foreach (((string move, bool kept, byte[] page), (_, bool gotKept, byte[] gotPage)) in expected.Zip(got))
        {
            int differs = kept ? -1 : Enumerable.Range(0, page.Length / 4).FirstOrDefault(w => !page.AsSpan(4 * w, 4).SequenceEqual(gotPage.AsSpan(4 * w, 4)), -1);
            Assert.True(kept == gotKept && differs < 0, $"{move}: kept {kept} and {gotKept}, word {differs} differs");
        }

        Assert.Contains(expected, e => !e.Kept);
    }

    [CudaFact]
    public void They_take_what_they_say_and_leave_the_rest()
    {
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using Accelerator accelerator = context.Devices.OfType<CudaDevice>().First().CreateAccelerator(context);
        CudaMoves own = CudaMoves.For(accelerator)!;
        Assert.True(Takes(64, 64));
        Assert.True(Takes(80, 4));
        Assert.False(Takes(72, 64));
        Assert.False(Takes(48, 64));
        Assert.False(Takes(512, 16));
        Assert.False(Takes(64, 6));
        Assert.False(Takes(256, 64));
        Assert.True(Takes(256, 32));
        Assert.False(Takes(64, 64, PageFormat.F32));

        bool Takes(int width, int pageTokens, PageFormat source = PageFormat.F16)
        {
            var geometry = new KvGeometry(1, 1, 1, width, pageTokens: pageTokens);
            PartDims from = new(geometry, new PageLayout(geometry, source, source), false), to = new(geometry, new PageLayout(geometry, PageFormat.I8, PageFormat.I8), false);
            return own.Move(new PartPair(source, PageFormat.I8, IsValue: false, HasDigest: true, from, to)) is not null;
        }
    }

    // Every class from open pages, of whole pages and of a few of their tokens; then from I8 pages what is below them. Heads have key scales, and none.
    private static List<(string Move, bool Kept, byte[] Page)> Written(Func<KernelShape, long, KernelTier> create, KernelShape shape)
    {
        KvGeometry g = shape.Geometry;
        using var harness = new TierHarness(create, shape, 120);
        var exponents = new byte[2 * g.KeyWidth];
        new Random(5).NextBytes(exponents.AsSpan(g.KeyWidth));
        harness.SetKeyScales(0, new KvKeyScales(g, [.. exponents.Select(e => (byte)(e % 16))]));
        HarnessSequence sequence = harness.Add(new SequenceData(g, 1, 1));
        harness.Begin((sequence, 2 * g.PageTokens));
        harness.Append(0, HardVectors.Make(2 * g.PageTokens, 2, g.KeyWidth, 71), HardVectors.Make(2 * g.PageTokens, 2, g.ValueWidth, 72));
        Assert.Null(harness.End());
        var written = new List<(string, bool, byte[])>();
        for (int head = 0; head < 2; head++)
        {
            int keyRow = harness.KeyRow(sequence, 0, head);
            for (int target = 1; target < shape.Classes.Count; target++)
            {
                Write(sequence.Rows[0, head][0].Slot, KernelShape.Open, target, g.PageTokens, keyRow);
                Write(sequence.Rows[0, head][1].Slot, KernelShape.Open, target, head == 0 ? g.PageTokens - 1 : Math.Min(g.PageTokens, 5 + target), keyRow);
            }

            int i8 = Write(sequence.Rows[0, head][0].Slot, KernelShape.Open, 1, g.PageTokens, keyRow);
            for (int target = 2; target <= 4; target++)
            {
                Write(i8, 1, target, g.PageTokens, keyRow);
                Write(i8, 1, target, Math.Max(1, g.PageTokens - target), keyRow);
            }
        }

        return written;

        int Write(int source, int sourceClass, int targetClass, int tokens, int keyRow)
        {
            int target = harness.TakeSlot();
            bool[] kept = [false];
            harness.Tier.Transcode([new PageMove(source, sourceClass, target, targetClass, tokens, KeyRow: keyRow)], kept);
            written.Add(($"{shape.Classes[sourceClass]} to {shape.Classes[targetClass]}, {tokens} tokens", kept[0], harness.ReadBytes(target, targetClass)));
            return target;
        }
    }
}
