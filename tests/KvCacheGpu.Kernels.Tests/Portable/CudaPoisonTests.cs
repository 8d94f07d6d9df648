using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>That the suites' pool shows a stale read where the driver can: a test of the tests.</summary>
public sealed class CudaPoisonTests
{
    private const int Slots = 3;

    [CudaFact]
    public void On_cuda_a_slot_is_forbidden_until_it_is_taken()
    {
        using Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
        using Accelerator accelerator = context.Devices.OfType<CudaDevice>().First().CreateAccelerator(context);
        KernelShape shape = Shapes.Encoded(new KvGeometry(1, 1, 1, 8, pageTokens: 4), PageFormat.F16);
        using var harness = new TierHarness((s, bytes) => new PortableTier(accelerator, s, bytes), shape, Slots);
        int taken = harness.TakeSlot();
        Assert.All(harness.ReadBytes(taken, KernelShape.Open), b => Assert.Equal(0xFF, b));

        bool canPoison = DevicePoison.Of(harness.Tier) is not null;
        IEnumerable<int> free = Enumerable.Range(0, harness.Slots).Select(i => harness.Tier.Map.FirstPageUnit + (i * SlotPool.Units(shape))).Where(slot => slot != taken);
        Assert.Equal(canPoison ? harness.Slots - 1 : 0, free.Count(slot => Record.Exception(() => harness.ReadBytes(slot, KernelShape.Open)) is CudaException));
    }
}
