namespace KvCacheGpu.Kernels;

/// <summary>Where one part (keys or values) of a page class lies in a slot. Only 32-bit integers, passed by value.</summary>
internal readonly struct PartDims
{
    public readonly int Width;
    public readonly int PageTokens;
    public readonly int Words;
    public readonly int First;
    public readonly int Scales;
    public readonly int TokenStride;
    public readonly int WordStride;

    public PartDims(KvGeometry geometry, PageLayout layout, bool isValue)
    {
        PageTokens = geometry.PageTokens;
        Width = isValue ? geometry.ValueWidth : geometry.KeyWidth;
        Words = isValue ? layout.ValueWords : layout.KeyWords;
        First = isValue ? layout.ValueOffset : 0;
        Scales = isValue ? layout.ValueScaleOffset : layout.KeyScaleOffset;
        TokenStride = isValue ? layout.ValueWords : 1;
        WordStride = isValue ? 1 : layout.PageTokens;
    }

    /// <summary>Word <paramref name="w"/> of token <paramref name="t"/>, from the start of the slot.</summary>
    public int At(int t, int w) => First + (t * TokenStride) + (w * WordStride);
}
