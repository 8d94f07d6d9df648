using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

internal delegate void TensorLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    WordViews arena,
    ArrayView<int> batch,
    ArrayView<ushort> queries,
    ArrayView<float> partials,
    ArrayView<float> partialStats,
    AttendDims call,
    KernelDims dims);

/// <summary>Makes the tier of an accelerator: with attention on tensor cores where it has them, from sm_80 on, and the portable kernels for all else.</summary>
public static class CudaTier
{
    /// <summary>Reserves the arena and compiles the kernels of the shape's formats.</summary>
    /// <inheritdoc cref="PortableTier(Accelerator, KernelShape, long, int, AllocationObserver?)"/>
    public static PortableTier Create(Accelerator accelerator, KernelShape shape, long arenaBytes, int groupSize = 0, AllocationObserver? observer = null) =>
        new(accelerator, shape, arenaBytes, groupSize, observer, Forms(accelerator, shape.Precision), CudaMoves.For(accelerator));

    /// <summary>True if the kernels run there: bfloat16 operands came with sm_80, the transposing move with PTX 7.8.</summary>
    public static bool HasTensorCores(Accelerator accelerator) =>
        accelerator is CudaAccelerator cuda && HasTensorCores(cuda.Architecture, cuda.InstructionSet);

    /// <summary>Attention on an accelerator's tensor cores, or null if it has none.</summary>
    internal static ITensorForms? Forms(Accelerator accelerator, KvAttentionPrecision precision) => HasTensorCores(accelerator) ? new TensorForms(precision) : null;

    /// <inheritdoc cref="HasTensorCores(Accelerator)"/>
    internal static bool HasTensorCores(CudaArchitecture? architecture, CudaInstructionSet? instructions) =>
        architecture >= CudaArchitecture.SM_80 && instructions >= new CudaInstructionSet(7, 8);

    private sealed class TensorForms(KvAttentionPrecision precision) : ITensorForms
    {
        public string? Refusal(KvGeometry geometry, PageLayout layout) => TensorKernels.Refusal(geometry, layout.KeyFormat, layout.ValueFormat);

        public TensorForm Load(Accelerator accelerator, KvGeometry geometry, PageLayout layout, int blockQueries)
        {
            TensorKernel kernel = TensorKernels.Of(geometry, layout.KeyFormat, layout.ValueFormat, blockQueries);
            return Load(accelerator, kernel);
        }

        public TensorForm? LoadMany(Accelerator accelerator, KvGeometry geometry, PageLayout layout) =>
            TensorKernels.Prefill(geometry, layout.KeyFormat, layout.ValueFormat, precision) is { } kernel ? Load(accelerator, kernel) : null;

        private static TensorForm Load(Accelerator accelerator, TensorKernel kernel)
        {
            TensorLauncher launch = accelerator.LoadKernel<TensorLauncher>(kernel.Method, kernel.Specialization);
            return new TensorForm(
                (stream, config, arena, batch, queries, partials, partialStats, call, dims) =>
                    launch(stream, config, new WordViews(arena, arena.Cast<Words2>(), arena.Cast<Words4>()), batch, queries, partials, partialStats, call, dims),
                kernel.Warps);
        }
    }
}
