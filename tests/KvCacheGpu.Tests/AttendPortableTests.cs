using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.Kernels;
using Half = System.Half;

namespace KvCacheGpu.Tests;

/// <summary>Attention without a step on the kernels that a GPU runs, its output on the host and on the device.</summary>
public sealed class AttendPortableTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, null)]
    [InlineData(PageFormat.I8, null)]
    [InlineData(PageFormat.I8, 2f)]
    public void The_device_gives_what_the_step_gave_and_keeps_its_statistics(PageFormat format, float? cap)
    {
        KvGeometry geometry = G with { AttentionScale = cap is null ? G.AttentionScale : 0.7f, LogitSoftCap = cap };
        using Context context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        using var cache = new KvCache(geometry, TestCaches.Measuring(format), (shape, bytes, seen) => new PortableTier(accelerator, shape, bytes, 2, seen));
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

        // Queries that lie on the device too: they are what the host's were, also in 16 bits with room between them.
        Half[] halves = [.. queries.Select(x => (Half)x)];
        int wide = (G.QueryHeads * G.KeyWidth) + 8;
        Half[] spread = new Half[2 * wide];
        halves.AsSpan(0, wide - 8).CopyTo(spread);
        halves.AsSpan(wide - 8).CopyTo(spread.AsSpan(wide));
        using MemoryBuffer1D<float, Stride1D.Dense> asked = accelerator.Allocate1D(queries);
        using MemoryBuffer1D<Half, Stride1D.Dense> askedInHalves = accelerator.Allocate1D(spread);
        buffer.MemSetToZero();
        sequence.Attend(0, KvTensor.FromDevice(asked.View.AsContiguous().Cast<byte>(), TensorType.F32), buffer.View.AsContiguous());
        accelerator.Synchronize();
        Assert.Equal(both, buffer.GetAsArray1D());
        buffer.MemSetToZero();
        sequence.Attend(0, KvTensor.FromDevice(askedInHalves.View.AsContiguous().Cast<byte>(), TensorType.F16, tokenStride: wide), buffer.View.AsContiguous());
        accelerator.Synchronize();
        Assert.Equal(both, buffer.GetAsArray1D());
        Assert.Throws<ArgumentException>("output", () => sequence.Attend(0, queries, buffer.View.AsContiguous().SubView(1)));

        using (KvSequence fork = sequence.Fork())
        {
            cache.Attend([sequence, fork], 0, KvTensor.FromDevice(asked.View.AsContiguous().Cast<byte>(), TensorType.F32), buffer.View.AsContiguous());
            accelerator.Synchronize();
            sequence.Attend(0, TokenContent.Queries(G, 0, [77]), output);
            Assert.Equal([.. output, .. expected], buffer.GetAsArray1D());
        }

        float[] after = new float[5];
        sequence.PageMass(0, 1, after);
        Assert.Equal(mass, after);
        sequence.Attend(0, TokenContent.Queries(G, 0, [77]), output, counts: true);
        sequence.PageMass(0, 1, after);
        Assert.NotEqual(mass, after);
    }
}
