using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A sequence of a case: the number of tokens before the attended step, and of those that the step adds.</summary>
public readonly record struct CasePart(int History, int Tokens);

/// <summary>One point of the grid.</summary>
public sealed record AttentionCase(
    int Index, KvGeometry Geometry, PageFormat Open, PageFormat SealedKey, PageFormat SealedValue, CasePart[] Parts)
{
    public const ulong RotationSeed = 0x5EED;

    /// <summary>The name in test results.</summary>
    public string Name =>
        $"{Index:000} open {Open} sealed {SealedKey}/{SealedValue} width {Geometry.KeyWidth}/{Geometry.ValueWidth} "
        + $"heads {Geometry.QueryHeads}/{Geometry.KvHeads} layers {Geometry.Layers} page {Geometry.PageTokens} scale {Geometry.AttentionScale} cap {Geometry.LogitSoftCap?.ToString() ?? "none"} "
        + $"batch {string.Join(' ', Parts.Select(p => $"{p.History}+{p.Tokens}"))}";

    public KernelShape Shape => Shapes.Mixed(Geometry, Open, SealedKey, SealedValue, Parts.Length, Pages);

    /// <summary>Number of slots that the case takes, with room for the new pages of one row while they are sealed.</summary>
    public int Slots => Parts.Sum(p => 2 * Geometry.PagesFor(p.History + p.Tokens)) * Geometry.Layers * Geometry.KvHeads;

    /// <summary>The approximate number of multiplications of append and attend, by which the subset for an emulator is chosen.</summary>
    public long Cost => Parts.Sum(p => Geometry.Layers * (Geometry.KeyWidth + (long)Geometry.ValueWidth)
        * (((long)(p.History + p.Tokens) * p.Tokens * Geometry.QueryHeads) + ((p.History + p.Tokens) * 10L * Geometry.KvHeads)));

    private int Pages => Parts.Max(p => Geometry.PagesFor(p.History + p.Tokens)) + 1;
}
