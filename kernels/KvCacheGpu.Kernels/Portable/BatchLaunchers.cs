using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The compiled kernels of a step, for one shape's formats.</summary>
internal sealed class BatchLaunchers
{
    public BatchLaunchers(Accelerator accelerator, KernelShape shape)
    {
        PageLayout open = shape.Classes[KernelShape.Open];
        PageLayout @sealed = shape.Classes[KernelShape.Sealed];
        Append = accelerator.LoadKernel<AppendLauncher>(PortableKernels.Append(open.KeyFormat, open.ValueFormat));
        Widen = accelerator.LoadKernel<WidenLauncher>(PortableKernels.Widen);
        Rotate = accelerator.LoadKernel<RotateLauncher>(PortableKernels.RotateQueries);
        Merge = accelerator.LoadKernel<MergeLauncher>(PortableKernels.Merge);

        // Classes with the same bytes are walked by one launch.
        PageLayout[] walked = open == @sealed ? [open] : [open, @sealed];
        bool canDecodeAlone = shape.Geometry.GroupSize == 1;
        AttendFour = [.. walked.Select(l => accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(l.KeyFormat, l.ValueFormat, 4)))];
        AttendOne = canDecodeAlone
            ? [.. walked.Select(l => accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(l.KeyFormat, l.ValueFormat, 1)))]
            : AttendFour;
    }

    public AppendLauncher Append { get; }

    public WidenLauncher Widen { get; }

    public RotateLauncher Rotate { get; }

    public MergeLauncher Merge { get; }

    /// <summary>By launch: one for all classes, or one for each.</summary>
    public AttendLauncher[] AttendFour { get; }

    /// <summary>The same for batches whose sequences have a single row each.</summary>
    public AttendLauncher[] AttendOne { get; }
}
