using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Attention without a step on the kernels that a GPU runs, its output on the host and on the device.</summary>
public sealed class AttendPortableTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void The_device_gives_what_the_step_gave_and_keeps_its_statistics(PageFormat format)
    {
        using Context context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        using var cache = new KvCache(G, TestCaches.Measuring(format), (shape, bytes, seen) => new PortableTier(accelerator, shape, bytes, 2, seen));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 18);
        float[] expected = sequence.Decode(19)[..(G.QueryHeads * G.ValueWidth)];
        float[] mass = new float[5];
        Assert.Equal(5, sequence.PageMass(0, 1, mass));
        float[] output = new float[expected.Length];
        sequence.Attend(0, TokenContent.Queries(G, 0, [19]), output);
        Assert.Equal(expected, output);

        using MemoryBuffer1D<float, Stride1D.Dense> buffer = accelerator.Allocate1D<float>(2 * expected.Length);
        using MemoryBuffer1D<float, Stride1D.Dense> sums = accelerator.Allocate1D<float>(2 * G.QueryHeads);
        float[] queries = TokenContent.Queries(G, 0, [77, 19]);
        sequence.Attend(0, queries, KvOutput.FromDevice(buffer.View.AsContiguous(), sums.View.AsContiguous()));
        accelerator.Synchronize();
        Assert.Equal(expected, buffer.GetAsArray1D()[expected.Length..]);
        float[] logSumExp = new float[2 * G.QueryHeads];
        float[] both = new float[2 * expected.Length];
        sequence.Attend(0, queries, KvOutput.FromHost(both, logSumExp));
        Assert.Equal(both, buffer.GetAsArray1D());
        Assert.Equal(logSumExp, sums.GetAsArray1D());
        Assert.Throws<ArgumentException>("output", () => sequence.Attend(0, queries, buffer.View.AsContiguous().SubView(1)));

        float[] after = new float[5];
        sequence.PageMass(0, 1, after);
        Assert.Equal(mass, after);
        sequence.Attend(0, TokenContent.Queries(G, 0, [77]), output, counts: true);
        sequence.PageMass(0, 1, after);
        Assert.NotEqual(mass, after);
    }
}
