using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Shapes by formats, for cases outside the grid.</summary>
public static class Shapes
{
    public static readonly PageFormat[] FullPrecision = [PageFormat.F32, PageFormat.F16, PageFormat.BF16];

    /// <summary>Open and sealed pages in the same full-precision format.</summary>
    public static KernelShape Plain(KvGeometry geometry, PageFormat format, int sequences = 4, int capacity = 64) =>
        Mixed(geometry, format, format, format, sequences, capacity);

    /// <summary>Open pages in one format, sealed pages in I8.</summary>
    public static KernelShape Encoded(KvGeometry geometry, PageFormat open, int sequences = 4, int capacity = 64) =>
        Mixed(geometry, open, PageFormat.I8, PageFormat.I8, sequences, capacity);

    /// <summary>Open pages in one format, sealed pages in a pair.</summary>
    public static KernelShape Mixed(
        KvGeometry geometry, PageFormat open, PageFormat key, PageFormat value, int sequences = 4, int capacity = 64, bool keepsNonFinite = false) =>
        Classes(geometry, open, [(key, value)], sequences, capacity, keepsNonFinite: keepsNonFinite);

    /// <summary>Open pages in one format, and a class for each pair of formats, by layer if masks are given.</summary>
    public static KernelShape Classes(
        KvGeometry geometry,
        PageFormat open,
        (PageFormat Key, PageFormat Value)[] pairs,
        int sequences = 4,
        int capacity = 64,
        int[]? layerClasses = null,
        bool keepsNonFinite = false)
    {
        // Open pages have room for a digest if some are sealed in place.
        var first = new PageLayout(geometry, open, open, hasDigest: pairs.Contains((open, open)));
        return new KernelShape(
            geometry,
            [first, .. pairs.Select(pair => new PageLayout(geometry, pair.Key, pair.Value))],
            AttentionCase.RotationSeed,
            sequences,
            capacity,
            layerClasses,
            keepsNonFinite);
    }
}
