using System.Diagnostics;
using System.Globalization;
using ILGPU;
using ILGPU.Runtime;
using KvCacheGpu.Benchmarks;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck;

/// <summary>
/// Measures a target's kernels against its own copy, in the same run. Calls are enqueued back to back on tensors that lie on the device,
/// so that a call's time is the kernels', or the launches' where those are longer.
/// </summary>
internal sealed class KernelBenches(CheckTarget target)
{
    private readonly int _rounds = target.IsEmulator ? 1 : 7;
    private readonly double _roundSeconds = target.IsEmulator ? 0 : 0.02;

    /// <summary>GB/s that the device copies, read and write counted.</summary>
    public double CopyGBps { get; private set; }

    /// <summary>Copy first, then attention, append and encode.</summary>
    public IEnumerable<KernelResult> Run()
    {
        CopyGBps = MeasureCopy();
        foreach (AttendShape shape in Shapes())
        {
            yield return Attend(shape, TensorType.F32);
            if (target.IsGpu && shape is { GroupSize: 4, Context: 1024 })
            {
                yield return Attend(shape, TensorType.F16);
            }
        }

        foreach (int tokens in target.IsEmulator ? [1, 64] : new[] { 1, 512, 8192 })
        {
            using var cache = new AppendCache(target.CreateTier, tokens, PageFormat.F16);
            yield return Append(cache, tokens, TensorType.F32);
            if (target.Accelerator is not null)
            {
                yield return Append(cache, tokens, TensorType.F16);
            }
        }

        foreach (int tokens in target.IsEmulator ? [64] : new[] { 512, 8192, 32768 })
        {
            foreach (PageFormat keys in new[] { PageFormat.I8, PageFormat.T4, PageFormat.T2 })
            {
                PageFormat values = ValuesBeside(keys);
                using var cache = new AppendCache(target.CreateTier, tokens, PageFormat.F16, keys, values);
                string pair = keys == values ? $"{keys}" : $"{keys}+{values}";
                string name = string.Create(CultureInfo.InvariantCulture, $"encode {tokens} tokens x 8 heads d128 F16 to {pair}");
                yield return Result(name, cache.EncodeBytes, Seconds(cache.EnqueueEncode, cache.Wait));
            }
        }
    }

    private IEnumerable<AttendShape> Shapes() => target.IsEmulator
        ? [.. new[] { PageFormat.F16, PageFormat.I8, PageFormat.T4, PageFormat.T2 }.Select(f => new AttendShape(64, 2, 4, 1, 1024, f, ValuesBeside(f)))]
        : from format in new[] { PageFormat.F16, PageFormat.I8, PageFormat.T4, PageFormat.T2 }
          from size in new[] { (1, 1024), (1, 4096), (1, 8192), (1, 32768), (32, 1024) }
          from sharing in new[] { 1, 4, 8 }
          where sharing == 4 || size.Item2 == 32768
          select new AttendShape(128, 8, sharing, size.Item1, size.Item2, format, ValuesBeside(format));

    // V4 with T4; every other format with itself.
    private static PageFormat ValuesBeside(PageFormat key) => key.IsCentered() ? key - PageFormat.T4 + PageFormat.V4 : key;

    private KernelResult Attend(AttendShape shape, TensorType type)
    {
        using var cache = new FilledCache(shape, target.CreateTier);
        string name = $"attend {shape}{Suffix(type)}";
        KvGeometry g = shape.Geometry;
        if (target.Accelerator is not { } accelerator)
        {
            return Result(name, cache.BytesRead, Seconds(cache.Attend, () => { }));
        }

        float[] source = FilledCache.Gaussian(new Random(7), shape.Sequences * g.QueryHeads * g.KeyWidth);
        using MemoryBuffer1D<byte, Stride1D.Dense> queries = accelerator.Allocate1D(TypedNumbers.Bytes(source, type));
        using MemoryBuffer1D<byte, Stride1D.Dense> output = accelerator.Allocate1D<byte>(shape.Sequences * g.QueryHeads * g.ValueWidth * sizeof(float));
        accelerator.Synchronize();
        return Result(name, cache.BytesRead, Seconds(
            () => cache.Batch.Attend(0, Tensor(queries, type), KvOutput.FromDevice(output.View.AsContiguous(), type)), () => cache.Batch.End()));
    }

    private KernelResult Append(AppendCache cache, int tokens, TensorType type)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"append {tokens} tokens x 8 heads d128 F16{Suffix(type)}");
        if (target.Accelerator is not { } accelerator)
        {
            return Result(name, cache.AppendBytes, Seconds(cache.Append, () => { }));
        }

        using MemoryBuffer1D<byte, Stride1D.Dense> keys = accelerator.Allocate1D(TypedNumbers.Bytes(cache.Keys, type));
        using MemoryBuffer1D<byte, Stride1D.Dense> values = accelerator.Allocate1D(TypedNumbers.Bytes(cache.Values, type));
        accelerator.Synchronize();
        long saved = ((long)(cache.Keys.Length + cache.Values.Length) * sizeof(float)) - keys.Length - values.Length;
        return Result(name, cache.AppendBytes - saved, Seconds(
            () => cache.Batch.Append(0, Tensor(keys, type), Tensor(values, type)), () => cache.Batch.End()));
    }

    private double MeasureCopy()
    {
        if (target.Accelerator is not { } accelerator)
        {
            using var pool = new WorkerPool(Environment.ProcessorCount);
            using var memory = new Bandwidth(pool);
            long bytes = memory.Copy();
            return bytes / Seconds(() => memory.Copy(), () => { }) / 1e9;
        }

        long size = target.IsGpu ? 1L << 30 : 1L << 26;
        using MemoryBuffer1D<int, Stride1D.Dense> from = accelerator.Allocate1D<int>(size / sizeof(int));
        using MemoryBuffer1D<int, Stride1D.Dense> to = accelerator.Allocate1D<int>(size / sizeof(int));
        using AcceleratorStream stream = accelerator.CreateStream();
        from.View.AsContiguous().MemSetToZero(stream);
        return 2 * size / Seconds(() => to.View.AsContiguous().CopyFrom(stream, from.View.AsContiguous()), stream.Synchronize) / 1e9;
    }

    private KernelResult Result(string name, long bytes, double seconds)
    {
        double rate = bytes / seconds / 1e9;
        return new KernelResult(name, seconds * 1e3, bytes, rate, rate / CopyGBps);
    }

    // The median over rounds of as many calls as take the round's time.
    private double Seconds(Action call, Action wait)
    {
        call();
        wait();
        int calls = 1;
        while (Round(call, wait, calls) is double seconds && seconds < _roundSeconds && calls < 1 << 14)
        {
            calls *= 2;
        }

        double[] rounds = [.. Enumerable.Range(0, _rounds).Select(_ => Round(call, wait, calls) / calls).Order()];
        return rounds[rounds.Length / 2];
    }

    private static double Round(Action call, Action wait, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
        {
            call();
        }

        wait();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    // Tensors of the device are binary32 where the name says nothing.
    private static string Suffix(TensorType type) => type == TensorType.F32 ? string.Empty : $", tensors in {type}";

    private static KvTensor Tensor(MemoryBuffer1D<byte, Stride1D.Dense> buffer, TensorType type) => KvTensor.FromDevice(buffer.View.AsContiguous(), type);
}
