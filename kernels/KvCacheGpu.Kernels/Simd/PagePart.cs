namespace KvCacheGpu.Kernels;

/// <summary>The keys or the values of one page in memory, as <see cref="PageLayout"/> draws them.</summary>
internal readonly unsafe struct PagePart
{
    private PagePart(PageFormat format, int width, int* words, int vectorWords, int pageTokens, ushort* scales, int scaleStride, int planes)
    {
        (Format, Width, VectorWords, PageTokens, ScaleStride, Planes) = (format, width, vectorWords, pageTokens, scaleStride, planes);
        Words = words;
        Scales = scales;
    }

    public PageFormat Format { get; }

    public int Width { get; }

    public int* Words { get; }

    /// <summary>Words of one vector.</summary>
    public int VectorWords { get; }

    public int PageTokens { get; }

    /// <summary>Planes of scales, from the first token's.</summary>
    public ushort* Scales { get; }

    public int ScaleStride { get; }

    public int Planes { get; }

    public bool IsKeys { get; private init; }

    /// <summary>The digest's mean, or null.</summary>
    public ushort* Mean { get; private init; }

    /// <summary>The digest's deviation, or null.</summary>
    public ushort* Deviation { get; private init; }

    public static PagePart Keys(PageLayout layout, int* page, int width)
    {
        var digest = (ushort*)(page + layout.DigestOffset);
        var scales = (ushort*)(page + layout.KeyScaleOffset);
        return new PagePart(layout.KeyFormat, width, page, layout.KeyWords, layout.PageTokens, scales, layout.ScaleStride, layout.KeyScalePlanes)
        {
            IsKeys = true,
            Mean = layout.HasDigest ? digest : null,
            Deviation = layout.HasDigest ? digest + layout.DigestStride : null,
        };
    }

    public static PagePart Values(PageLayout layout, int* page, int width) => new(
        layout.ValueFormat,
        width,
        page + layout.ValueOffset,
        layout.ValueWords,
        layout.PageTokens,
        (ushort*)(page + layout.ValueScaleOffset),
        layout.ScaleStride,
        layout.ValueScalePlanes);

    public float Scale(int plane, int token) => Single(Scales[(plane * ScaleStride) + token]);

    public static float Single(ushort half) => BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromHalf(half));
}
