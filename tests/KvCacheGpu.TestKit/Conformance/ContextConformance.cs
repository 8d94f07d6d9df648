using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>
/// Caches on accelerators of CUDA: in the device's primary context, beside others that hold it, and on an accelerator of a host with a context of its own.
/// </summary>
public abstract class ContextConformance
{
    private static readonly KvGeometry _geometry = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 16, pageTokens: 4);

    /// <summary>An accelerator of the device under test.</summary>
    protected abstract CudaAccelerator Target { get; }

    private string Device => $"cuda:{Ordinal}";

    private int Ordinal => Target.DeviceId;

    [Fact]
    public void A_cache_of_its_own_works_in_the_primary_context()
    {
        CudaDriver driver = CudaDriver.Current;
        nint primary = driver.RetainPrimaryContext(Ordinal);
        try
        {
            nint before = driver.CurrentContext;
            using (var first = new KvCache(_geometry, Options(Device)))
            using (var second = new KvCache(_geometry, Options(Device)))
            {
                Assert.Equal(primary, first.Accelerator!.NativePtr);
                Assert.Equal(primary, second.Accelerator!.NativePtr);
                Assert.NotSame(first.Accelerator, second.Accelerator);
                Assert.Equal(Device, first.Device.Id);
                Check(Life(first), Life(second));
                using AcceleratorStream stream = first.Accelerator.CreateStream();
                Assert.Equal(primary, driver.ContextOf(((CudaStream)stream).StreamPtr));
                using (var bound = new DeviceBinding(second.Accelerator))
                {
                    Assert.Equal(primary, driver.CurrentContext);
                }
            }

            Assert.True(driver.IsPrimaryContextActive(Ordinal));
            Assert.Equal(before, driver.CurrentContext == primary && before == 0 ? 0 : driver.CurrentContext);
        }
        finally
        {
            driver.ReleasePrimaryContext(Ordinal);
        }
    }

    [Fact]
    public void Caches_share_a_primary_accelerator_of_the_host_and_leave_it_alive()
    {
        using KvPrimaryAccelerator host = KvDevice.CreatePrimaryAccelerator(Ordinal);
        using (var first = new KvCache(_geometry, Options("auto"), host.Accelerator))
        using (var second = new KvCache(_geometry, Options(Device), host.Accelerator))
        {
            Assert.Same(host.Accelerator, first.Accelerator);
            Check(Life(first), Life(second));
        }

        Assert.False(host.Accelerator.IsDisposed);
        Roundtrip(host.Accelerator);
        long free = host.Accelerator.GetFreeMemory();
        for (int i = 0; i < 3; i++)
        {
            using (var cache = new KvCache(_geometry, Options("auto"), host.Accelerator))
            {
                Assert.InRange(free - host.Accelerator.GetFreeMemory(), cache.ReservedBytes, long.MaxValue);
            }

            KvCacheOptions tight = Options("auto");
            tight.MemoryBudgetBytes = 1000;
            Assert.Throws<KvConfigurationException>(() => new KvCache(_geometry, tight, host.Accelerator));
        }

        // Drivers give memory in pieces of some MB.
        Assert.InRange(free - host.Accelerator.GetFreeMemory(), long.MinValue, 4L << 20);
    }

    [Fact]
    public void A_cache_on_an_accelerator_with_a_context_of_its_own_leaves_it_alive()
    {
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using CudaAccelerator host = context.GetCudaDevice(Ordinal).CreateCudaAccelerator(context);
        using (var cache = new KvCache(_geometry, Options("cuda:" + Ordinal), host))
        using (KvCache other = OnCpu())
        {
            Assert.Same(host, cache.Accelerator);
            Check(Life(other), Life(cache));
        }

        Assert.False(host.IsDisposed);
        Roundtrip(host);
        Assert.Throws<KvConfigurationException>(() => new KvCache(_geometry, Options("cpu"), host));
    }

    [Fact]
    public void Whatever_the_host_has_current_is_current_after_every_call()
    {
        CudaDriver driver = CudaDriver.Current;
        using var cache = new KvCache(_geometry, Options(Device));
        List<float[]> expected = Life(cache);
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using CudaAccelerator host = context.GetCudaDevice(Ordinal).CreateCudaAccelerator(context);
        host.Bind();
        Check(expected, Life(cache));
        Assert.Same(host, Accelerator.Current);
        Assert.Equal(host.NativePtr, driver.CurrentContext);
        using (KvDevice.CreatePrimaryAccelerator(Ordinal))
        {
            Assert.Same(host, Accelerator.Current);
            Assert.Equal(host.NativePtr, driver.CurrentContext);
        }

        // As torch does: another context becomes current, and ILGPU is not told.
        cache.Accelerator!.Bind();
        driver.SetCurrentContext(host.NativePtr);
        Check(expected, Life(cache));
        Assert.Equal(host.NativePtr, driver.CurrentContext);
        driver.SetCurrentContext(0);
        Check(expected, Life(cache));
        Assert.Equal(0, driver.CurrentContext);
        DeviceBinding.Reset(null);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_accelerator_that_goes_first_takes_the_memory_and_the_cache_can_still_be_disposed(bool byItself)
    {
        CudaDriver driver = CudaDriver.Current;
        nint before = driver.CurrentContext;
        KvPrimaryAccelerator host = KvDevice.CreatePrimaryAccelerator(Ordinal);
        var cache = new KvCache(_geometry, Options("auto"), host.Accelerator);
        KvSequence sequence = cache.CreateSequence();
        Step(sequence, new SequenceData(_geometry, 20, seed: 1), 9, []);
        (byItself ? (IDisposable)host.Accelerator : host).Dispose();
        Assert.True(host.Accelerator.IsDisposed);
        Assert.Throws<ObjectDisposedException>(() => Step(sequence, new SequenceData(_geometry, 20, seed: 1), 1, []));
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => new KvCache(_geometry, Options("auto"), host.Accelerator));
        host.Dispose();
        Assert.True(driver.IsPrimaryContextActive(Ordinal));
        Roundtrip(Target);
        driver.SetCurrentContext(before);
    }

    [Fact]
    public void Twenty_caches_one_after_the_other_leave_nothing_behind()
    {
        CudaAccelerator accelerator = Target;
        using (var warm = new KvCache(_geometry, Options(Device)))
        {
            _ = Life(warm);
        }

        long free;
        using (var bound = new DeviceBinding(accelerator))
        {
            free = accelerator.GetFreeMemory();
        }

        for (int i = 0; i < 20; i++)
        {
            using var cache = new KvCache(_geometry, Options(Device));
            using KvSequence sequence = cache.CreateSequence();
        }

        using (var bound = new DeviceBinding(accelerator))
        {
            // A context takes more than this on every GPU, and a cache's modules stay below it.
            Assert.InRange(free - accelerator.GetFreeMemory(), long.MinValue, 64L << 20);
        }
    }

    /// <summary>Needs a second device, which nothing else of the process uses.</summary>
    [Fact]
    public void A_primary_context_that_nobody_held_ends_with_the_last_cache()
    {
        CudaDriver driver = CudaDriver.Current;
        int other = KvDevice.List().Count(d => d.Kind == KvDeviceKind.Cuda) > 1 ? Ordinal == 0 ? 1 : 0 : Ordinal;
        bool wasActive = driver.IsPrimaryContextActive(other);
        string id = $"cuda:{other}";
        for (int i = 0; i < 3; i++)
        {
            var first = new KvCache(_geometry, Options(id));
            using (var second = new KvCache(_geometry, Options(id)))
            using (KvCache here = new(_geometry, Options(Device)))
            {
                Assert.True(driver.IsPrimaryContextActive(other));
                Assert.Equal(other == Ordinal, here.Accelerator!.NativePtr == second.Accelerator!.NativePtr);
                Assert.True(KvDevice.Resolve(id).Cuda!.IsPrimaryContextActive);
                Check(Life(here), Life(second));
            }

            Assert.True(driver.IsPrimaryContextActive(other));
            first.Dispose();
            Assert.Equal(wasActive, driver.IsPrimaryContextActive(other));
            Assert.Equal(wasActive, KvDevice.Resolve(id).Cuda!.IsPrimaryContextActive);
        }
    }

    [Fact]
    public void A_current_context_that_another_thread_has_destroyed_hinders_nobody()
    {
        CudaDriver driver = CudaDriver.Current;
        nint before = driver.CurrentContext;
        nint gone = driver.CreateContext(Ordinal);
        var other = new Thread(() => driver.DestroyContext(gone));
        other.Start();
        other.Join();
        try
        {
            using KvCache expected = OnCpu(), cache = new(_geometry, Options(Device));
            Check(Life(expected), Life(cache));
        }
        finally
        {
            driver.SetCurrentContext(before);
        }
    }

    private static KvCacheOptions Options(string device) => new()
    {
        Device = device,
        MaxTokens = 128,
        MaxSequences = 2,
        MaxBatchTokens = 32,
        KeyFormat = PageFormat.F32,
        ValueFormat = PageFormat.F32,
        FullPrecision = PageFormat.F32,
        MemoryBudgetBytes = 1 << 24,
    };

    private static KvCache OnCpu() => new(_geometry, Options("cpu"));

    private static List<float[]> Life(KvCache cache)
    {
        var outputs = new List<float[]>();
        var data = new SequenceData(_geometry, 24, seed: 3);
        using KvSequence sequence = cache.CreateSequence();
        Step(sequence, data, 17, outputs);
        Step(sequence, data, 1, outputs);
        return outputs;
    }

    private static void Step(KvSequence sequence, SequenceData data, int count, List<float[]> outputs)
    {
        int first = sequence.Length;
        using KvStep step = sequence.Begin([.. Enumerable.Range(first, count)]);
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            step.Append(layer, Slice(data.Keys[layer], 2 * 16), Slice(data.Values[layer], 2 * 16));
            var output = new float[count * 4 * 16];
            step.Attend(layer, Slice(data.Queries[layer], 4 * 16), output);
            outputs.Add(output);
        }

        step.Commit();

        float[] Slice(float[] vectors, int floats) => vectors[(first * floats)..((first + count) * floats)];
    }

    private static void Check(List<float[]> expected, List<float[]> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        foreach ((float[] e, float[] a) in expected.Zip(actual))
        {
            double off = Math.Sqrt(e.Zip(a, (x, y) => (double)(x - y) * (x - y)).Sum());
            Assert.InRange(off, 0, 2e-5 * Math.Sqrt(e.Sum(x => (double)x * x)));
        }
    }

    private static void Roundtrip(Accelerator accelerator)
    {
        using MemoryBuffer1D<int, Stride1D.Dense> buffer = accelerator.Allocate1D<int>([1, 2, 3]);
        Assert.Equal([1, 2, 3], buffer.GetAsArray1D());
    }
}
