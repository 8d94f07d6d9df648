using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Shapes by formats, for cases outside the grid.</summary>
public static class Shapes
{
    public static readonly PageFormat[] FullPrecision = [PageFormat.F32, PageFormat.F16, PageFormat.BF16];

    /// <summary>Open and sealed pages in the same full-precision formats.</summary>
    public static KernelShape Plain(KvGeometry geometry, PageFormat key, PageFormat value, int sequences = 4, int capacity = 64) =>
        new(geometry, new PageLayout(geometry, key, value), new PageLayout(geometry, key, value), AttentionCase.RotationSeed, sequences, capacity);

    /// <summary>Open pages in one format, sealed pages in I8.</summary>
    public static KernelShape Encoded(KvGeometry geometry, PageFormat open, int sequences = 4, int capacity = 64) =>
        Mixed(geometry, open, open, PageFormat.I8, PageFormat.I8, sequences, capacity);

    public static KernelShape Mixed(
        KvGeometry geometry, PageFormat openKey, PageFormat openValue, PageFormat key, PageFormat value, int sequences = 4, int capacity = 64) =>
        new(geometry, new PageLayout(geometry, openKey, openValue), new PageLayout(geometry, key, value), AttentionCase.RotationSeed, sequences, capacity);
}
