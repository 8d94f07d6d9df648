namespace KvCacheGpu.Kernels;

/// <summary>How the slots of a page class are laid out, for attention. Only 32-bit integers, passed by value.</summary>
internal readonly struct PageDims
{
    // Shared memory for scales that are widened at once.
    private const int StagedFloats = 1024;

    /// <summary>Elements of a key with its padding: from one query to the next.</summary>
    public readonly int KeyStride;

    public readonly int KeyScales;
    public readonly int ValueFirst;
    public readonly int ValueWords;
    public readonly int ValueScales;

    /// <summary>Words from one plane of scales to the next.</summary>
    public readonly int PlaneWords;

    /// <summary>First word of the keys' mean.</summary>
    public readonly int Mean;

    /// <summary>Elements of a value that share a scale.</summary>
    public readonly int ValueGroup;

    /// <summary>Planes of value scales that are widened to shared memory, 0 for formats with one scale or none.</summary>
    public readonly int StagedPlanes;

    /// <summary>Tokens whose scales are widened at once.</summary>
    public readonly int StagedTokens;

    public PageDims(KvGeometry geometry, PageLayout layout)
    {
        KeyStride = layout.KeyWords * 32 / layout.KeyFormat.BitsPerElement();
        (KeyScales, ValueFirst, ValueWords) = (layout.KeyScaleOffset, layout.ValueOffset, layout.ValueWords);
        (ValueScales, PlaneWords, Mean) = (layout.ValueScaleOffset, layout.ScaleStride / 2, layout.HasDigest ? layout.DigestOffset : 0);
        ValueGroup = layout.ValueFormat.ScaleGroup(geometry.ValueWidth);
        bool isStaged = layout.ValueFormat is PageFormat.V4 or PageFormat.Q8 or PageFormat.Q4;
        StagedPlanes = isStaged ? layout.ValueScalePlanes : 0;
        StagedTokens = isStaged ? Math.Clamp(StagedFloats / StagedPlanes, 1, layout.PageTokens) : 0;
    }
}
