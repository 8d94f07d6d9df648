namespace KvCacheGpu.Kernels;

/// <summary>What a kernel tier is built for: geometry, the layouts of its page classes, and the size of its tables.</summary>
public sealed record KernelShape
{
    /// <summary>Page class of open pages: full precision, still written.</summary>
    public const int Open = 0;

    /// <summary>Page class of sealed pages: never written again.</summary>
    public const int Sealed = 1;

    /// <summary>Describes a tier.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="open">Layout of open pages; both formats in full precision.</param>
    /// <param name="sealedLayout">Layout of sealed pages.</param>
    /// <param name="rotationSeed">Seed of the signs that rotated formats use; part of the stored format.</param>
    /// <param name="sequences">Sequences that live at once, each with its own table rows.</param>
    /// <param name="tableCapacity">Pages that one table row can list.</param>
    public KernelShape(KvGeometry geometry, PageLayout open, PageLayout sealedLayout, ulong rotationSeed, int sequences, int tableCapacity)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(sealedLayout);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(tableCapacity, 1);
        if (!open.KeyFormat.IsFullPrecision() || !open.ValueFormat.IsFullPrecision())
        {
            throw new ArgumentException($"open pages are written token by token: expected full-precision formats, got {open}", nameof(open));
        }

        (Geometry, RotationSeed, Sequences, TableCapacity) = (geometry, rotationSeed, sequences, tableCapacity);
        Classes = [open, sealedLayout];
        KeyRefusedFrom = Math.Min(open.KeyFormat.RefusedFrom(), sealedLayout.KeyFormat.RefusedFrom());
        ValueRefusedFrom = Math.Min(open.ValueFormat.RefusedFrom(), sealedLayout.ValueFormat.RefusedFrom());
    }

    /// <summary>The model's shape.</summary>
    public KvGeometry Geometry { get; }

    /// <summary>Layouts by page class: <see cref="Open"/>, <see cref="Sealed"/>.</summary>
    public IReadOnlyList<PageLayout> Classes { get; }

    /// <summary>The smallest magnitude of a key's element that append refuses, as binary32 bits: what any page class cannot hold.</summary>
    public uint KeyRefusedFrom { get; }

    /// <summary>The smallest magnitude of a value's element that append refuses, as binary32 bits.</summary>
    public uint ValueRefusedFrom { get; }

    /// <summary>Seed of the rotation's signs.</summary>
    public ulong RotationSeed { get; }

    /// <summary>Sequences that live at once.</summary>
    public int Sequences { get; }

    /// <summary>Pages that one table row can list.</summary>
    public int TableCapacity { get; }
}
