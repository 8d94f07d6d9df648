using System.Diagnostics;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Measuring;

/// <summary>
/// Measures a target's kernels against its own copy and its own tensor cores, in the same run. Calls are enqueued back to back on tensors that lie on the
/// device, so that a call's time is the kernels', or the launches' where those are longer.
/// </summary>
/// <param name="target">The device.</param>
/// <param name="seconds">Time after which no further row is begun.</param>
internal sealed class KernelBenches(MeasuredDevice target, double seconds)
{
    private readonly int _rounds = target.IsEmulated ? 1 : 5;
    private readonly double _roundSeconds = target.IsEmulated ? 0 : 0.02;

    /// <summary>GB/s that the device copies, read and write counted.</summary>
    public double CopyGBps { get; private set; }

    /// <summary>1e12 operations a second of its tensor cores; 0 if it has none.</summary>
    public double PeakTflops { get; private set; }

    /// <summary>Why <see cref="PeakTflops"/> is 0; empty if it is not.</summary>
    public string PeakNote { get; } = MmaPeak.Refusal(target) ?? string.Empty;

    /// <summary>The names of the rows that no time was left for.</summary>
    public List<string> Dropped { get; } = [];

    /// <summary>Measures copy and tensor cores.</summary>
    public void MeasureLimits()
    {
        CopyGBps = MeasureCopy();
        PeakTflops = PeakNote.Length > 0 ? 0 : MmaPeak.Measure(target.Accelerator!);
    }

    /// <summary>Copy and tensor cores first, then the rows in their order until the time is over.</summary>
    public IEnumerable<KernelResult> Run(IEnumerable<BenchRow> rows)
    {
        long start = Stopwatch.GetTimestamp();
        MeasureLimits();
        foreach (BenchRow row in rows)
        {
            if (Stopwatch.GetElapsedTime(start).TotalSeconds >= seconds)
            {
                Dropped.Add(row.Name);
                continue;
            }

            yield return row switch
            {
                AttendRow attend => Attend(attend),
                AppendRow append => Append(append),
                EncodeRow encode => Encode(encode),
                _ => throw new NotSupportedException(row.Name),
            };
        }
    }

    private KernelResult Attend(AttendRow row)
    {
        AttendShape shape = row.Shape;
        using var cache = new FilledCache(shape, target.CreateTier);
        KvGeometry g = shape.Geometry;
        if (target.Accelerator is not { } accelerator)
        {
            return Result(row, shape.BytesRead, Seconds(cache.Attend, () => { }), shape.Operations);
        }

        int tokens = shape.Sequences * shape.QueryTokens;
        float[] source = FilledCache.Gaussian(new Random(7), tokens * g.QueryHeads * g.KeyWidth);
        using MemoryBuffer1D<byte, Stride1D.Dense> queries = accelerator.Allocate1D(TensorBytes(source, row.Type));
        using MemoryBuffer1D<byte, Stride1D.Dense> output = accelerator.Allocate1D<byte>((long)tokens * g.QueryHeads * g.ValueWidth * sizeof(float));
        accelerator.Synchronize();
        double taken = Seconds(
            () => cache.Batch.Attend(0, Tensor(queries, row.Type), KvOutput.FromDevice(output.View.AsContiguous(), row.Type)), () => cache.Batch.End());
        return Result(row, shape.BytesRead, taken, shape.Operations);
    }

    private KernelResult Append(AppendRow row)
    {
        using var cache = new AppendCache(target.CreateTier, row.Tokens, PageFormat.F16);
        if (target.Accelerator is not { } accelerator)
        {
            return Result(row, cache.AppendBytes, Seconds(cache.Append, () => { }));
        }

        using MemoryBuffer1D<byte, Stride1D.Dense> keys = accelerator.Allocate1D(TensorBytes(cache.Keys, row.Type));
        using MemoryBuffer1D<byte, Stride1D.Dense> values = accelerator.Allocate1D(TensorBytes(cache.Values, row.Type));
        accelerator.Synchronize();
        long saved = ((long)(cache.Keys.Length + cache.Values.Length) * sizeof(float)) - keys.Length - values.Length;
        return Result(row, cache.AppendBytes - saved, Seconds(
            () => cache.Batch.Append(0, Tensor(keys, row.Type), Tensor(values, row.Type)), () => cache.Batch.End()));
    }

    private KernelResult Encode(EncodeRow row)
    {
        using var cache = new AppendCache(
            target.CreateTier, row.Tokens, PageFormat.F16, row.To.Key, row.To.Value, row.Lower is { } lower ? (lower.Key, lower.Value) : null);
        cache.Append();
        cache.Encode();
        return row.Lower is null
            ? Result(row, cache.EncodeBytes, Seconds(cache.EnqueueEncode, cache.Wait))
            : Result(row, cache.DemoteBytes, Seconds(cache.EnqueueDemote, cache.Wait));
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

        long size = target.IsEmulated ? 1L << 26 : 1L << 30;
        using MemoryBuffer1D<int, Stride1D.Dense> from = accelerator.Allocate1D<int>(size / sizeof(int));
        using MemoryBuffer1D<int, Stride1D.Dense> to = accelerator.Allocate1D<int>(size / sizeof(int));
        using AcceleratorStream stream = accelerator.CreateStream();
        from.View.AsContiguous().MemSetToZero(stream);
        return 2 * size / Seconds(() => to.View.AsContiguous().CopyFrom(stream, from.View.AsContiguous()), stream.Synchronize) / 1e9;
    }

    private KernelResult Result(BenchRow row, long bytes, double taken, double operations = 0)
    {
        double rate = bytes / taken / 1e9, tflops = operations / taken / 1e12;
        return new KernelResult(
            row.Name, taken * 1e3, bytes, rate, rate / CopyGBps, tflops, PeakTflops > 0 ? tflops / PeakTflops : 0, row.Target, row.Of);
    }

    // The median over rounds of as many calls as take the round's time.
    private double Seconds(Action call, Action wait)
    {
        call();
        wait();
        int calls = 1;
        while (Round(call, wait, calls) is double taken && taken < _roundSeconds && calls < 1 << 14)
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

    private static byte[] TensorBytes(float[] numbers, TensorType type) => type switch
    {
        TensorType.F32 => MemoryMarshal.AsBytes<float>(numbers).ToArray(),
        TensorType.F16 => MemoryMarshal.AsBytes<System.Half>(Array.ConvertAll(numbers, x => (System.Half)x)).ToArray(),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "expected F32 or F16, the types that rows have"),
    };

    private static KvTensor Tensor(MemoryBuffer1D<byte, Stride1D.Dense> buffer, TensorType type) => KvTensor.FromDevice(buffer.View.AsContiguous(), type);
}
