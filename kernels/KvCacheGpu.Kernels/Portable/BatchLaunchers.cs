using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The compiled kernels of a step, for one shape's formats.</summary>
internal sealed class BatchLaunchers
{
    /// <summary>Queries of a block for which a group of warps expands each page once.</summary>
    public const int ManyQueries = 64;

    private readonly AttendForm[] _forms;
    private readonly AttendForm[][] _layers;

    /// <summary>Compiles the kernels; <paramref name="tensors"/> is the attention that the device has of its own, <paramref name="own"/> its other kernels, or null.</summary>
    public BatchLaunchers(Accelerator accelerator, KernelShape shape, ITensorForms? tensors, IMoveKernels? own)
    {
        PageLayout open = shape.Classes[KernelShape.Open];
        OwnAppend = own?.Append(shape.Geometry, open);
        Append = accelerator.LoadKernel<AppendLauncher>(PortableKernels.Append(open.KeyFormat, open.ValueFormat));
        Rotate = accelerator.LoadKernel<RotateLauncher>(PortableKernels.RotateQueries);
        MergeLauncher merge = accelerator.LoadKernel<MergeLauncher>(PortableKernels.Merge);
        Merge = own?.Merge(shape.Geometry, merge) ?? merge;
        Score = own?.Score() ?? accelerator.LoadKernel<ScoreLauncher>(PortableKernels.Score);

        // Classes of one pair of formats are walked by one launch: a digest lies behind all that attention reads.
        int[][] pairs = [.. Enumerable.Range(0, shape.Classes.Count).GroupBy(c => (shape.Classes[c].KeyFormat, shape.Classes[c].ValueFormat)).Select(classes => classes.ToArray())];
        string?[] refusals = [.. pairs.Select(pair => tensors is null ? "the device has no other" : tensors.Refusal(shape.Geometry, shape.Classes[pair[0]]))];
        HasTensorForms = refusals.Contains(null);
        BlockQueries = Array.TrueForAll(refusals, refusal => refusal is null) ? 8 : 4;
        PortablePairs =
        [
            .. pairs.Zip(refusals).Where(form => form.Second is not null)
                .Select(form => $"{shape.Classes[form.First[0]].KeyFormat}/{shape.Classes[form.First[0]].ValueFormat}: {form.Second}"),
        ];
        AttendForm[] forms = [.. pairs.Zip(refusals, (pair, refusal) => new AttendForm(accelerator, shape, pair, refusal is null ? tensors : null, BlockQueries))];
        _layers = [.. shape.LayerClasses.Select(mask => forms.Where(f => (f.Classes & (mask | (1 << KernelShape.Open))) != 0).ToArray())];
        _forms = forms;
        MaxForms = _layers.Max(l => l.Length);
        QueryForms = _layers.Max(l => l.Where(f => f.RotatesKeys).Select(f => f.ScalesKeys).Distinct().Count());
    }

    public AppendLauncher Append { get; }

    /// <summary>The device's own append, for the tensors that it takes; null where there is none.</summary>
    public IAppendKernel? OwnAppend { get; }

    public RotateLauncher Rotate { get; }

    public MergeLauncher Merge { get; }

    public ScoreLauncher Score { get; }

    /// <summary>Queries of a block, at most: 8 if all forms of the shape run on tensor cores, else 4.</summary>
    public int BlockQueries { get; }

    /// <summary>True if all forms of the shape take blocks of <see cref="ManyQueries"/> too. The first batch that may have so many asks, and their kernels are compiled.</summary>
    public bool TakesManyQueries() => Array.TrueForAll(_forms, f => f.TakesManyQueries);

    /// <summary>True if a form runs on tensor cores.</summary>
    public bool HasTensorForms { get; }

    /// <summary>The pairs of formats that the portable kernels attend, each with the reason: "F32/F32: F32 keys".</summary>
    public IReadOnlyList<string> PortablePairs { get; }

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
    private readonly KvGeometry _geometry;
    private readonly AttendLauncher? _one;
    private readonly AttendLauncher? _four;
    private readonly AttendLauncher? _eight;
    private readonly Lazy<TensorForm?> _many;
    private readonly int _warps;

    /// <summary>Compiles the kernels of a pair.</summary>
    /// <param name="accelerator">The device.</param>
    /// <param name="shape">Geometry and formats.</param>
    /// <param name="classes">The page classes of the pair.</param>
    /// <param name="tensors">The device's own attention, which takes the pair, or null.</param>
    /// <param name="blockQueries">Queries of a block, at most.</param>
    public AttendForm(Accelerator accelerator, KernelShape shape, int[] classes, ITensorForms? tensors, int blockQueries)
    {
        _geometry = shape.Geometry;
        PageLayout layout = shape.Classes[classes[0]];
        Classes = classes.Aggregate(0, (mask, c) => mask | (1 << c));
        Map = new PageDims(_geometry, layout);
        (RotatesKeys, ScalesKeys, RotatesValues) = (layout.KeyFormat.IsRotated(), layout.KeyFormat.IsCentered(), layout.ValueFormat.IsRotated());
        Observe = accelerator.LoadKernel<ObserveLauncher>(PortableKernels.Observe(layout.KeyFormat, _geometry.LogitSoftCap is not null));
        if (tensors is null)
        {
            _many = new Lazy<TensorForm?>((TensorForm?)null);
            _four = accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(layout.KeyFormat, layout.ValueFormat, 4));
            _one = _geometry.GroupSize > 1
                ? _four
                : accelerator.LoadKernel<AttendLauncher>(PortableKernels.Attend(layout.KeyFormat, layout.ValueFormat, 1));
            return;
        }

        _many = new Lazy<TensorForm?>(() => blockQueries == 8 ? tensors.LoadMany(accelerator, _geometry, layout) : null);
        if (blockQueries == 8)
        {
            (_eight, _warps) = tensors.Load(accelerator, _geometry, layout, 8);
        }

        // With more than four query heads a KV head no sequence has so few queries.
        if (blockQueries == 4 || _geometry.GroupSize <= 4)
        {
            (_four, _warps) = tensors.Load(accelerator, _geometry, layout, 4);
        }
    }

    /// <summary>Bit c for each page class c.</summary>
    public int Classes { get; }

    public PageDims Map { get; }

    public bool RotatesKeys { get; }

    /// <summary>True if keys are under key scales, and queries are divided by them.</summary>
    public bool ScalesKeys { get; }

    public bool RotatesValues { get; }

    /// <summary>True if it takes blocks of <see cref="BatchLaunchers.ManyQueries"/>.</summary>
    public bool TakesManyQueries => _many.Value is not null;

    public ObserveLauncher Observe { get; }

    /// <summary>Attention of blocks of 1, 4, 8 or 64 queries.</summary>
    public AttendLauncher Attention(int blockQueries) => (blockQueries switch { 1 => _one, 4 => _four, 8 => _eight, _ => _many.Value?.Attend })!;

    /// <summary>The grid for a number of (block, head, segment)s: each is the work of a group, or, on tensor cores for few queries, of a warp.</summary>
    public KernelConfig Config(int items, int blockQueries, int groupSize) => blockQueries == BatchLaunchers.ManyQueries
        ? new KernelConfig(items, _many.Value!.Value.Warps * 32)
        : _warps > 0
        ? new KernelConfig((items + _warps - 1) / _warps, _warps * 32)
        : new KernelConfig(items, groupSize, SharedMemoryConfig.RequestDynamic<float>(AttendKernel.SharedFloats(blockQueries, _geometry, Map, groupSize)));
}

/// <summary>Attention that a kind of device has of its own, beside the portable kernels: with the same tables, batches and partial results.</summary>
internal interface ITensorForms
{
    /// <summary>Says why the portable kernel has to attend the pages of a layout, or returns null if <see cref="Load"/> takes them.</summary>
    string? Refusal(KvGeometry geometry, PageLayout layout);

    /// <summary>Makes the attention of blocks of <paramref name="blockQueries"/>, 4 or 8, ready. Each (block, head, segment) is the work of a warp.</summary>
    TensorForm Load(Accelerator accelerator, KvGeometry geometry, PageLayout layout, int blockQueries);

    /// <summary>The same of blocks of <see cref="BatchLaunchers.ManyQueries"/>, or null if the pages have none. Each (block, head, segment) is the work of a group.</summary>
    TensorForm? LoadMany(Accelerator accelerator, KvGeometry geometry, PageLayout layout);
}

/// <summary>Attention on tensor cores.</summary>
/// <param name="Attend">Launches it.</param>
/// <param name="Warps">Warps of a group.</param>
internal readonly record struct TensorForm(AttendLauncher Attend, int Warps);
