using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class KvDeviceTests
{
    private static readonly KvDeviceInfo _cpu = new("cpu", KvDeviceKind.Cpu, "host", 1, true, string.Empty);
    private static readonly KvDeviceInfo _cuda = new("cuda:0", KvDeviceKind.Cuda, "gpu", 1, true, string.Empty) { IsGpu = true };
    private static readonly KvDeviceInfo _oldCuda = new("cuda:0", KvDeviceKind.Cuda, "old gpu", 1, false, "too old") { IsGpu = true };
    private static readonly KvDeviceInfo _runtime = new("opencl:0", KvDeviceKind.OpenCl, "pocl", 1, true, "not a GPU");
    private static readonly KvDeviceInfo _gpu = new("opencl:1", KvDeviceKind.OpenCl, "gpu", 1, true, string.Empty) { IsGpu = true };

    [Fact]
    public void Auto_takes_cuda_then_an_opencl_gpu_then_the_host()
    {
        Assert.Same(_cuda, KvDevice.Choose([_cuda, _runtime, _gpu, _cpu], "auto"));
        Assert.Same(_gpu, KvDevice.Choose([_oldCuda, _runtime, _gpu, _cpu], "auto"));
        Assert.Same(_cpu, KvDevice.Choose([_oldCuda, _runtime, _cpu], "auto"));
    }

    [Fact]
    public void Ids_name_devices_by_index()
    {
        Assert.Same(_cuda, KvDevice.Choose([_cuda, _runtime, _gpu, _cpu], "cuda"));
        Assert.Same(_runtime, KvDevice.Choose([_cuda, _runtime, _gpu, _cpu], "opencl"));
        Assert.Same(_gpu, KvDevice.Choose([_cuda, _runtime, _gpu, _cpu], "opencl:1"));
        Assert.Same(_cpu, KvDevice.Choose([_cuda, _cpu], "cpu"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("gpu")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:x")]
    [InlineData("metal:0")]
    [InlineData("CPU")]
    [InlineData("auto:0")]
    public void An_id_that_names_no_kind_of_device_is_a_configuration_error(string id)
    {
        var error = Assert.Throws<KvConfigurationException>(() => KvDevice.Resolve(id));
        Assert.Equal("E003", error.Code);
        Assert.Contains("cuda[:index]", error.Expected, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_is_not_there_or_not_usable_is_unsupported()
    {
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => KvDevice.Resolve("cuda:97")).Code);
        var error = Assert.Throws<KvUnsupportedException>(() => KvDevice.Choose([_oldCuda, _cpu], "cuda:0"));
        Assert.Equal("too old", error.Actual);
    }

    [Theory]
    [InlineData(false, true, 80, "Some GPU", null, "generic address space")]
    [InlineData(true, true, 80, "Some GPU", null, "")]
    [InlineData(true, false, 8, "Some CPU", null, "one compute unit")]
    [InlineData(true, false, 1, "Some CPU", null, "")]
    [InlineData(true, false, 1, "Portable Computing Language", null, "POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable")]
    [InlineData(true, false, 1, "Portable Computing Language", "-cl-mad-enable", "POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable")]
    [InlineData(true, false, 2, "Portable Computing Language", "-cl-opt-disable", "POCL_CPU_MAX_CU_COUNT=1")]
    [InlineData(true, false, 1, "Portable Computing Language", "-g -cl-opt-disable", "")]
    public void An_opencl_device_that_cannot_run_the_kernels_says_why(
        bool generic, bool isGpu, int computeUnits, string platform, string? flags, string expected)
    {
        string refusal = OpenClSupport.Refusal(generic, isGpu, computeUnits, platform, flags);
        Assert.Equal(expected.Length == 0, refusal.Length == 0);
        Assert.Contains(expected, refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void The_list_ends_with_the_hosts_own_devices_and_every_usable_one_resolves()
    {
        IReadOnlyList<KvDeviceInfo> devices = KvDevice.List();
        Assert.Equal(["cpu", "ilgpu-cpu"], devices.TakeLast(2).Select(d => d.Id));
        Assert.Equal(devices.Count, devices.Select(d => d.Id).Distinct().Count());
        Assert.All(devices.Where(d => d.Usable), d => Assert.Equal(d, KvDevice.Resolve(d.Id)));
        Assert.All(devices, d => Assert.True(d.MemoryBytes > 0 && (d.Usable || d.Reason.Length > 0)));
    }

    [Theory]
    [InlineData("cpu", "simd")]
    [InlineData("ilgpu-cpu", "portable (ilgpu-cpu)")]
    public void A_tier_is_made_on_a_device_and_gives_everything_back(string id, string name)
    {
        var geometry = new KvGeometry(1, 2, 1, 16, pageTokens: 4);
        var shape = new KernelShape(geometry, new PageLayout(geometry, PageFormat.F16, PageFormat.F16), new PageLayout(geometry, PageFormat.I8, PageFormat.I8), 1, 1, 4);
        long held = 0;
        for (int again = 0; again < 2; again++)
        {
            using (KernelTier tier = KvDevice.CreateTier(id, shape, 1 << 16, (_, bytes) => held += bytes))
            {
                Assert.StartsWith(name, tier.Name, StringComparison.Ordinal);
                Assert.True(held >= 1 << 16);
                var words = new int[4];
                tier.Load(tier.Map.FirstPageUnit * PageLayout.UnitWords, [1, 2, 3, 4]);
                tier.Read(tier.Map.FirstPageUnit * PageLayout.UnitWords, words);
                Assert.Equal([1, 2, 3, 4], words);
            }

            Assert.Equal(0, held);
        }
    }
}
