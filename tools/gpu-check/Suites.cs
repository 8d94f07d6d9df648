using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;
using KvCacheGpu.TestKit;
using Xunit;

namespace KvCacheGpu.GpuCheck;

/// <summary>The target at hand as the conformance suites know a tier: by type.</summary>
public sealed class TargetUnderTest : ITierUnderTest
{
    private static readonly AsyncLocal<CheckTarget?> _target = new();

    /// <summary>An emulator runs the cases with encoded pages that barriers are tested with.</summary>
    public static IEnumerable<AttentionCase> Grid => Target.IsEmulator ? AttentionGrid.Few : AttentionGrid.All;

    /// <summary>The cases of tensor cores that the options choose.</summary>
    public static IEnumerable<CudaCase> CudaCases { get; internal set; } = CudaGrid.Pairs;

    internal static CheckTarget Target
    {
        get => _target.Value ?? throw new InvalidOperationException("expected a target, got none");
        set => _target.Value = value;
    }

    /// <inheritdoc/>
    public static KernelTier Create(KernelShape shape, long arenaBytes) => Target.CreateTierForCases(shape, arenaBytes);
}

/// <summary>Attention on the target.</summary>
public sealed class AttentionSuite : AttentionConformance<TargetUnderTest>;

/// <summary>Tensor cores on the target.</summary>
public sealed class CudaSuite : CudaConformance<TargetUnderTest>;

/// <summary>The portable kernels on the target, where its tensor cores take their place.</summary>
public sealed class PortableSuite
{
    /// <summary>The cases by name.</summary>
    public static IEnumerable<object[]> Cases => AttentionGrid.OnTensorCores.Select(c => new object[] { c.Name });

    /// <summary>Holds one of them.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Portable_kernels_equal_the_oracle_where_tensor_cores_attend(string name) => new Attention().Attention_equals_the_oracle_on_the_decoded_pages(name);

    private sealed class Attention : AttentionConformance<Portable>;

    private sealed class Portable : ITierUnderTest
    {
        public static KernelTier Create(KernelShape shape, long arenaBytes) => SplittingTier.On(TargetUnderTest.Target.Accelerator!, shape, arenaBytes);
    }
}

/// <summary>Append, encode, transcode, materialize and refusals on the target.</summary>
public sealed class PageSuite : PageConformance<TargetUnderTest>;

/// <summary>Keys under key scales, and the sums of queries, on the target.</summary>
public sealed class KeyScaleSuite : KeyScaleConformance<TargetUnderTest>;

/// <summary>Tensors and outputs of every type and place on the target.</summary>
public sealed class TensorSuite : TensorConformance<TargetUnderTest>;

/// <summary>A whole cache on the target.</summary>
public sealed class EngineSuite : EngineConformance<TargetUnderTest>;

/// <summary>Caches in the contexts of a CUDA target.</summary>
public sealed class ContextSuite : ContextConformance
{
    /// <inheritdoc/>
    protected override CudaAccelerator Target => (CudaAccelerator)TargetUnderTest.Target.Accelerator!;
}

/// <summary>A group of caches over the target's device and, where there is one, another device of its kind.</summary>
public sealed class GroupSuite : GroupConformance
{
    /// <inheritdoc/>
    protected override IReadOnlyList<string> Devices
    {
        get
        {
            KvDeviceInfo target = TargetUnderTest.Target.Device;
            return [target.Id, KvDevice.List().FirstOrDefault(other => other.Usable && other.Kind == target.Kind && other.Id != target.Id)?.Id ?? target.Id];
        }
    }
}

/// <summary>The kernel that measures a CUDA target's tensor cores.</summary>
public sealed class MmaSuite
{
    /// <summary>What is timed is what was asked for: every thread has the sums of all its rounds.</summary>
    [Fact]
    public void Tensor_cores_give_the_sums_that_their_rate_is_measured_by()
    {
        const int Rounds = 37;
        if (MmaPeak.Refusal(TargetUnderTest.Target) is null || TargetUnderTest.Target.IsEmulated)
        {
            Assert.All(MmaPeak.Run(TargetUnderTest.Target.Accelerator!, 2, Rounds).Sums, sum => Assert.Equal(MmaPeak.Expected(Rounds), sum));
        }
    }
}
