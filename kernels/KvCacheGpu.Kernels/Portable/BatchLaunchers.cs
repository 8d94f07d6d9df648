using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The compiled kernels of a step, for one shape's formats.</summary>
internal sealed class BatchLaunchers
{
    private readonly AttendForm[][] _layers;

    public BatchLaunchers(Accelerator accelerator, KernelShape shape, IMoveKernels? own = null)
    {
        PageLayout open = shape.Classes[KernelShape.Open];
        OwnAppend = own?.Append(shape.Geometry, open);
        Append = accelerator.LoadKernel<AppendLauncher>(PortableKernels.Append(open.KeyFormat, open.ValueFormat));
        Rotate = accelerator.LoadKernel<RotateLauncher>(PortableKernels.RotateQueries);
        Merge = accelerator.LoadKernel<MergeLauncher>(PortableKernels.Merge);
        Score = accelerator.LoadKernel<ScoreLauncher>(PortableKernels.Score);

        // Classes of one pair of formats are walked by one launch: a digest lies behind all that attention reads.
        AttendForm[] forms =
        [
            .. shape.Classes.Select((layout, c) => (layout, c)).GroupBy(x => (x.layout.KeyFormat, x.layout.ValueFormat), x => x.c)
                .Select(classes => new AttendForm(accelerator, shape, [.. classes])),
        ];
        _layers = [.. shape.LayerClasses.Select(mask => forms.Where(f => (f.Classes & (mask | (1 << KernelShape.Open))) != 0).ToArray())];
        MaxForms = _layers.Max(l => l.Length);
        QueryForms = _layers.Max(l => l.Where(f => f.RotatesKeys).Select(f => f.ScalesKeys).Distinct().Count());
    }

    public AppendLauncher Append { get; }

    /// <summary>The device's own append, for the tensors that it takes; null where there is none.</summary>
    public IAppendKernel? OwnAppend { get; }

    public RotateLauncher Rotate { get; }

    public MergeLauncher Merge { get; }

    public ScoreLauncher Score { get; }

    /// <summary>Attention launches of a layer, at most.</summary>
    public int MaxForms { get; }

    /// <summary>Forms of rotated queries that a layer's attention takes at most: for I8, and for T formats.</summary>
    public int QueryForms { get; }

    /// <summary>The attention launches of a layer.</summary>
    public ReadOnlySpan<AttendForm> Of(int layer) => _layers[layer];
}

/// <summary>Attention over the pages of one pair of formats.</summary>
internal sealed class AttendForm
{
    public AttendForm(Accelerator accelerator, KernelShape shape, int[] classes)
    {
        PageLayout layout = shape.Classes[classes[0]];
        Classes = classes.Aggregate(0, (mask, c) => mask | (1 << c));
        Map = new PageDims(shape.Geometry, layout);
        (RotatesKeys, ScalesKeys, RotatesValues) = (layout.KeyFormat.IsRotated(), layout.KeyFormat.IsCentered(), layout.ValueFormat.IsRotated());
        Observe = accelerator.LoadKernel<ObserveLauncher>(PortableKernels.Observe(layout.KeyFormat, shape.Geometry.LogitSoftCap is not null));
        Four = accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(layout.KeyFormat, layout.ValueFormat, 4));
        One = shape.Geometry.GroupSize > 1
            ? Four
            : accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(layout.KeyFormat, layout.ValueFormat, 1));
    }

    /// <summary>Bit c for each page class c.</summary>
    public int Classes { get; }

    public PageDims Map { get; }

    public bool RotatesKeys { get; }

    /// <summary>True if keys are under key scales, and queries are divided by them.</summary>
    public bool ScalesKeys { get; }

    public bool RotatesValues { get; }

    public AttendLauncher Four { get; }

    public ObserveLauncher Observe { get; }

    /// <summary>For batches whose sequences have a single query each.</summary>
    public AttendLauncher One { get; }
}
