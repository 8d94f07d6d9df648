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

    /// <summary>Planes of scales.</summary>
    public readonly int Planes;

    /// <summary>Words from one plane of scales to the next.</summary>
    public readonly int PlaneWords;

    /// <summary>Elements that share a scale.</summary>
    public readonly int ScaleGroup;

    /// <summary>First word of the keys' mean; 0 where the page has none, or the part is the values.</summary>
    public readonly int Mean;

    /// <summary>Words of the mean, and of the deviation behind it.</summary>
    public readonly int MeanWords;

    public PartDims(KvGeometry geometry, PageLayout layout, bool isValue)
    {
        PageFormat format = isValue ? layout.ValueFormat : layout.KeyFormat;
        PageTokens = geometry.PageTokens;
        Width = isValue ? geometry.ValueWidth : geometry.KeyWidth;
        Words = isValue ? layout.ValueWords : layout.KeyWords;
        First = isValue ? layout.ValueOffset : 0;
        Scales = isValue ? layout.ValueScaleOffset : layout.KeyScaleOffset;
        TokenStride = isValue ? layout.ValueWords : 1;
        WordStride = isValue ? 1 : layout.PageTokens;
        Planes = isValue ? layout.ValueScalePlanes : layout.KeyScalePlanes;
        PlaneWords = layout.ScaleStride / 2;
        ScaleGroup = format.ScaleGroup(Width);
        Mean = isValue || !layout.HasDigest ? 0 : layout.DigestOffset;
        MeanWords = layout.DigestStride / 2;
    }

    /// <summary>Word <paramref name="w"/> of token <paramref name="t"/>, from the start of the slot.</summary>
    public int At(int t, int w) => First + (t * TokenStride) + (w * WordStride);
}
