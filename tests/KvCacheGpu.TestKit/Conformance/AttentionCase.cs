using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A sequence of a case: what it holds before the attended step, and what the step adds.</summary>
public readonly record struct CasePart(int History, int Tokens);

/// <summary>One point of the grid.</summary>
public sealed record AttentionCase(
    int Index, KvGeometry Geometry, PageFormat Open, PageFormat SealedKey, PageFormat SealedValue, CasePart[] Parts)
{
    public const ulong RotationSeed = 0x5EED;

    /// <summary>The name a test result shows.</summary>
    public string Name =>
        $"{Index:000} open {Open} sealed {SealedKey}/{SealedValue} width {Geometry.KeyWidth}/{Geometry.ValueWidth} "
        + $"heads {Geometry.QueryHeads}/{Geometry.KvHeads} layers {Geometry.Layers} page {Geometry.PageTokens} "
        + $"batch {string.Join(' ', Parts.Select(p => $"{p.History}+{p.Tokens}"))}";

    public KernelShape Shape => Shapes.Mixed(Geometry, Open, SealedKey, SealedValue, Parts.Length, Pages);

    /// <summary>Slots that the case takes, and room for one row's pages in flight while they are sealed.</summary>
    public int Slots => Parts.Sum(p => 2 * Geometry.PagesFor(p.History + p.Tokens)) * Geometry.Layers * Geometry.KvHeads;

    /// <summary>Multiplications that append and attend take, roughly: what an emulator's subset goes by.</summary>
    public long Cost => Parts.Sum(p => Geometry.Layers * (Geometry.KeyWidth + (long)Geometry.ValueWidth)
        * (((long)(p.History + p.Tokens) * p.Tokens * Geometry.QueryHeads) + ((p.History + p.Tokens) * 10L * Geometry.KvHeads)));

    private int Pages => Parts.Max(p => Geometry.PagesFor(p.History + p.Tokens)) + 1;
}
