namespace KvCacheGpu.Kernels;

/// <summary>The shape of a kernel tier: geometry, the layouts of its page classes, and the size of its tables.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KernelShape
{
    /// <summary>Page class of open pages: full precision, still written.</summary>
    public const int Open = 0;

    /// <summary>The first page class of sealed pages, which are never written again; the only one where all layers have the same formats.</summary>
    public const int Sealed = 1;

    /// <summary>Page classes at most.</summary>
    public const int MaxClasses = 16;

    /// <summary>Describes a tier whose sealed pages have one layout.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="open">Layout of open pages; both formats in full precision.</param>
    /// <param name="sealedLayout">Layout of sealed pages.</param>
    /// <param name="rotationSeed">Seed of the signs that rotated formats use; part of the stored format.</param>
    /// <param name="sequences">Sequences that live at once, each with its own table rows.</param>
    /// <param name="tableCapacity">Pages that one table row can list.</param>
    public KernelShape(KvGeometry geometry, PageLayout open, PageLayout sealedLayout, ulong rotationSeed, int sequences, int tableCapacity)
        : this(geometry, [open, sealedLayout], rotationSeed, sequences, tableCapacity)
    {
    }

    /// <summary>Describes a tier.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="classes">Layouts by page class: <see cref="Open"/>, then those of sealed pages, 2..16 of them.</param>
    /// <param name="rotationSeed">Seed of the signs that rotated formats use; part of the stored format.</param>
    /// <param name="sequences">Sequences that live at once, each with its own table rows.</param>
    /// <param name="tableCapacity">Pages that one table row can list.</param>
    /// <param name="layerClasses">For each layer the classes that its pages may have, bit c for class c; null, the default, means all.</param>
    /// <param name="keepsNonFinite">
    /// True if append takes NaN, infinities and numbers that a format cannot hold: such a page then stays open instead of being sealed.
    /// The default value is false: the batch that appends them reports them.
    /// </param>
    public KernelShape(
        KvGeometry geometry,
        IReadOnlyList<PageLayout> classes,
        ulong rotationSeed,
        int sequences,
        int tableCapacity,
        IReadOnlyList<int>? layerClasses = null,
        bool keepsNonFinite = false)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentNullException.ThrowIfNull(classes);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(tableCapacity, 1);
        if (classes.Count is < 2 or > MaxClasses)
        {
            throw new ArgumentException($"expected 2..{MaxClasses} page classes, got {classes.Count}", nameof(classes));
        }

        PageLayout open = classes[Open];
        if (!open.KeyFormat.IsFullPrecision() || !open.ValueFormat.IsFullPrecision())
        {
            throw new ArgumentException($"open pages are written token by token: expected full-precision formats, got {open}", nameof(classes));
        }

        (Geometry, RotationSeed, Sequences, TableCapacity) = (geometry, rotationSeed, sequences, tableCapacity);
        Classes = [.. classes];
        LayerClasses = layerClasses is null ? [.. Enumerable.Repeat((1 << classes.Count) - 1, geometry.Layers)] : [.. layerClasses];
        if (LayerClasses.Count != geometry.Layers)
        {
            throw new ArgumentException($"expected classes for {geometry.Layers} layers, got {LayerClasses.Count}", nameof(layerClasses));
        }

        KeepsNonFinite = keepsNonFinite;
        KeyRefusedFrom = keepsNonFinite ? uint.MaxValue : Classes.Min(c => c.KeyFormat.RefusedFrom());
        ValueRefusedFrom = keepsNonFinite ? uint.MaxValue : Classes.Min(c => c.ValueFormat.RefusedFrom());
    }

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry { get; }

    /// <summary>Layouts by page class: <see cref="Open"/>, then those of sealed pages.</summary>
    public IReadOnlyList<PageLayout> Classes { get; }

    /// <summary>For each layer the classes that its pages may have, bit c for class c. The open class always counts as one of them.</summary>
    public IReadOnlyList<int> LayerClasses { get; }

    /// <summary>True if some class has keys in a T format, which <see cref="KvKeyScales"/> are for.</summary>
    public bool ScalesKeys => Classes.Any(c => c.KeyFormat.IsCentered());

    /// <summary>True if append takes NaN, infinities and numbers that a format cannot hold.</summary>
    public bool KeepsNonFinite { get; }

    /// <summary>The smallest magnitude of a key's element that append refuses, as binary32 bits: the smallest that some page class cannot hold.</summary>
    public uint KeyRefusedFrom { get; }

    /// <summary>The smallest magnitude of a value's element that append refuses, as binary32 bits.</summary>
    public uint ValueRefusedFrom { get; }

    /// <summary>Seed of the rotation's signs.</summary>
    public ulong RotationSeed { get; }

    /// <summary>Sequences that live at once.</summary>
    public int Sequences { get; }

    /// <summary>Pages that one table row can list.</summary>
    public int TableCapacity { get; }

    /// <summary>
    /// True if the tables hold page statistics, log-sum-exps and scores. The default value is true. False leaves their bytes out: attention writes none, and
    /// <see cref="KernelBatch.Score"/> and <see cref="KernelBatch.Observe"/> are refused.
    /// </summary>
    public bool HasStatistics { get; init; } = true;

    /// <summary>How precisely attention computes where tiers have a choice. The default value is <see cref="KvAttentionPrecision.Exact"/>.</summary>
    public KvAttentionPrecision Precision { get; init; }

    /// <summary>
    /// True if CUDA devices choose by measurement how attention is divided: results differ in their last bits until each kind of launch is known. The default value is false.
    /// </summary>
    public bool MeasuresKernels { get; init; }
}
