using System.Diagnostics;
using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Measuring;

/// <summary>
/// The rate at which a device's tensor cores multiply: <c>mma.sync.m16n8k16</c> of binary16 into binary32, the instruction of the attention kernels, by
/// eight sums in turn, so that none waits for the one before it.
/// </summary>
internal static class MmaPeak
{
    private const int BlockThreads = 128;
    private const int BlocksOfMultiprocessor = 4;
    private const int SumsOfThread = 8;

    // Two times 16 x 8 x 16 for each instruction of a warp.
    private const double Operations = 2 * 16 * 8 * 16;

    // Two times 1 in binary16.
    private const int Ones = 0x3C003C00;

    /// <summary>Why a device has no such rate; null if it has one.</summary>
    public static string? Refusal(MeasuredDevice target) => target.Accelerator switch
    {
        _ when target.IsEmulated => "an emulator has no rate of its own",
        null => "the host's processor has no tensor cores",
        CudaAccelerator cuda when cuda.Architecture >= CudaArchitecture.SM_80 => null,
        CudaAccelerator cuda => $"{cuda.Architecture} has no mma.m16n8k16: sm_80 and later have",
        { } other => $"{other.AcceleratorType} has no mma.sync",
    };

    /// <summary>1e12 operations a second, the most of three launches of some tens of milliseconds; the first one compiles the kernel and wakes the clocks.</summary>
    public static double Measure(Accelerator accelerator)
    {
        const int Rounds = 1 << 17;
        int blocks = accelerator.NumMultiprocessors * BlocksOfMultiprocessor;
        double operations = blocks * (BlockThreads / 32.0) * SumsOfThread * Rounds * Operations;
        return operations / Enumerable.Range(0, 4).Select(_ => Run(accelerator, blocks, Rounds).Seconds).Skip(1).Min() / 1e12;
    }

    /// <summary>For each thread of <paramref name="blocks"/> blocks all its sums together, of <paramref name="rounds"/> products of ones each, and the time of the launch.</summary>
    public static (float[] Sums, double Seconds) Run(Accelerator accelerator, int blocks, int rounds)
    {
        Action<AcceleratorStream, KernelConfig, ArrayView<float>, int, int, int> kernel = accelerator.LoadKernel<ArrayView<float>, int, int, int>(Multiply);
        using MemoryBuffer1D<float, Stride1D.Dense> sums = accelerator.Allocate1D<float>(blocks * BlockThreads);
        using AcceleratorStream stream = accelerator.CreateStream();
        accelerator.Synchronize();
        long start = Stopwatch.GetTimestamp();
        kernel(stream, (blocks, BlockThreads), sums.View.AsContiguous(), rounds, Ones, Ones);
        stream.Synchronize();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return (sums.GetAsArray1D(), seconds);
    }

    /// <summary>What <see cref="Run"/> gives for each thread: 32 elements, each the sum of 16 ones a round.</summary>
    public static float Expected(int rounds) => SumsOfThread * 4f * 16f * rounds;

    private static void Multiply(ArrayView<float> sums, int rounds, int left, int right)
    {
        Fragment a = default, b = default, c = default, d = default, e = default, f = default, g = default, h = default;
        for (int round = 0; round < rounds; round++)
        {
            Mma(ref a, left, right);
            Mma(ref b, left, right);
            Mma(ref c, left, right);
            Mma(ref d, left, right);
            Mma(ref e, left, right);
            Mma(ref f, left, right);
            Mma(ref g, left, right);
            Mma(ref h, left, right);
        }

        sums[(Grid.IdxX * Group.DimX) + Group.IdxX] = a.Sum + b.Sum + c.Sum + d.Sum + e.Sum + f.Sum + g.Sum + h.Sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Mma(ref Fragment sum, int left, int right)
    {
        Ref<float> s0 = sum.First, s1 = sum.Second, s2 = sum.Third, s3 = sum.Fourth;
        Input<int> a = left, b = right;
        CudaAsm.EmitRef(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%4,%4,%4},{%5,%5},{%0,%1,%2,%3};",
            ref s0,
            ref s1,
            ref s2,
            ref s3,
            ref a,
            ref b);
        (sum.First, sum.Second, sum.Third, sum.Fourth) = (s0.Value, s1.Value, s2.Value, s3.Value);
    }

    private struct Fragment
    {
        public float First;
        public float Second;
        public float Third;
        public float Fourth;

        public readonly float Sum => First + Second + Third + Fourth;
    }
}
