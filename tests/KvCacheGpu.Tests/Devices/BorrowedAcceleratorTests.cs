using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;

namespace KvCacheGpu.Tests;

/// <summary>Caches on an accelerator of the host's own ILGPU context. The same on CUDA, with its contexts: ContextConformance.</summary>
public sealed class BorrowedAcceleratorTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    private readonly Context _context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
    private readonly Accelerator _accelerator;

    public BorrowedAcceleratorTests() => _accelerator = _context.CreateCPUAccelerator(0);

    [Theory]
    [InlineData("auto")]
    [InlineData("ilgpu-cpu")]
    public void A_cache_works_on_it_and_leaves_it_alive(string device)
    {
        using (var cache = new KvCache(G, Options(device), _accelerator))
        using (KvCache expected = TestCaches.Simd(G, Options("cpu")))
        {
            Assert.Same(_accelerator, cache.Accelerator);
            Assert.Null(expected.Accelerator);
            Assert.Equal(("ilgpu-cpu", KvDeviceKind.Emulator, true), (cache.Device.Id, cache.Device.Kind, cache.Device.MemoryBytes > 0));
            Assert.Equal("portable (ilgpu-cpu)", cache.TierName);
            using KvSequence mine = cache.CreateSequence(), other = expected.CreateSequence();
            mine.FeedMany(1, 9);
            other.FeedMany(1, 9);
            float[] got = mine.Decode(10), wanted = other.Decode(10);
            Assert.All(got.Zip(wanted), pair => Assert.Equal(pair.Second, pair.First, 1e-4f));
        }

        Assert.False(_accelerator.IsDisposed);
        using MemoryBuffer1D<int, Stride1D.Dense> buffer = _accelerator.Allocate1D<int>([1, 2, 3]);
        Assert.Equal([1, 2, 3], buffer.GetAsArray1D());
    }

    [Fact]
    public void Its_own_accelerator_is_shown_and_goes_with_the_cache()
    {
        Accelerator own;
        using (var cache = new KvCache(G, Options("ilgpu-cpu")))
        {
            own = cache.Accelerator!;
            Assert.False(own.IsDisposed);
        }

        Assert.True(own.IsDisposed);
        using var cpu = new KvCache(G, Options("cpu"));
        Assert.Null(cpu.Accelerator);
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cuda")]
    [InlineData("cuda:0")]
    [InlineData("opencl:1")]
    [InlineData("no such")]
    public void Options_that_name_another_device_are_refused(string device)
    {
        var error = Assert.Throws<KvConfigurationException>(() => new KvCache(G, Options(device), _accelerator));
        Assert.Equal("E003", error.Code);
        Assert.Contains("ilgpu-cpu", error.Expected, StringComparison.Ordinal);
    }

    [Fact]
    public void An_accelerator_that_goes_first_takes_the_memory_and_the_cache_can_still_be_disposed()
    {
        var cache = new KvCache(G, Options("auto"), _accelerator);
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 9);
        _accelerator.Dispose();
        Assert.Throws<ObjectDisposedException>(() => sequence.FeedMany(1, 1));
        Assert.Throws<ObjectDisposedException>(() => sequence.Materialized(0));
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => new KvCache(G, Options("auto"), _accelerator));
    }

    [Fact]
    public void The_thread_keeps_the_accelerator_that_it_had()
    {
        using Accelerator other = _context.CreateCPUAccelerator(0);
        using var cache = new KvCache(G, Options("auto"), _accelerator);
        other.Bind();
        using (KvSequence sequence = cache.CreateSequence())
        {
            sequence.FeedMany(1, 9);
            _ = sequence.Decode(10);
            Assert.Same(other, Accelerator.Current);
        }

        Assert.Same(other, Accelerator.Current);
    }

    [Fact]
    public void No_accelerator_is_an_argument_error() =>
        Assert.Throws<ArgumentNullException>("accelerator", () => new KvCache(G, null, null!));

    public void Dispose()
    {
        _accelerator.Dispose();
        _context.Dispose();
    }

    private static KvCacheOptions Options(string device)
    {
        KvCacheOptions options = TestCaches.Config(maxTokens: 64);
        options.Device = device;
        options.MemoryBudgetBytes = 1 << 20;
        return options;
    }
}
