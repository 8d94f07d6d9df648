namespace KvCacheGpu.Kernels;

/// <summary>Which pages may be written from which: sealing, reopening, and the ladder of demotion.</summary>
internal static class PageMoves
{
    /// <summary>
    /// True if a page class may be written from another: copies, the open class from and to any, and each part of a sealed page
    /// from one that is <see cref="IsStep"/>.
    /// </summary>
    public static bool IsAllowed(KernelShape shape, int source, int target)
    {
        (PageLayout from, PageLayout to) = (shape.Classes[source], shape.Classes[target]);
        bool isSteps = IsStep(from.KeyFormat, to.KeyFormat) && IsStep(from.ValueFormat, to.ValueFormat);
        return source == KernelShape.Open || target == KernelShape.Open || isSteps;
    }

    /// <summary>True if a sealed part may be written in a format: in its own or one further down; from full precision, in any.</summary>
    public static bool IsStep(PageFormat source, PageFormat target)
    {
        bool isLess = source == PageFormat.I8 || (target - source) is 1 or 2;
        bool isLevels = target is PageFormat.T4 or PageFormat.T3 or PageFormat.T2 or PageFormat.V4 or PageFormat.V3 or PageFormat.V2;
        bool isSameLadder = source == PageFormat.I8 || (source.IsRotated() && target.IsCentered() == source.IsCentered());
        return source == target || source.IsFullPrecision() || (isLevels && isLess && isSameLadder);
    }

    /// <summary>True if keys of one format are written from another together with their page's digest.</summary>
    public static bool IsEncodedByPage(PageFormat source, PageFormat target) =>
        source != target && source.IsForKeys() && target.IsForKeys() && IsStep(source, target);

    /// <summary>True if values of one format are written from another, or keys without a digest.</summary>
    public static bool IsTranscoded(PageFormat source, PageFormat target)
    {
        bool isOfValues = source.IsForValues() && target.IsForValues() && IsStep(source, target);
        return source != target && (isOfValues || target.IsFullPrecision());
    }

    /// <summary>True if keys may keep their format and still get a digest: they are sealed where they lie, or come from such a page when its values change.</summary>
    public static bool HasDigestOfItsOwn(PageFormat format) => format.IsFullPrecision() || format == PageFormat.I8;
}
