namespace KvCacheGpu.Kernels;

/// <summary>
/// Where everything lies in a page slot. The only authority on bytes: kernels, pools and plans ask here.
/// </summary>
/// <remarks>
/// <code>
/// A slot holds P tokens of one (sequence, layer, KV head). Elements are packed into 32-bit words, little end first;
/// wK and wV are the words of one key and one value vector.
///
///   keys          int32[wK][P]   word w of token t at w*P + t: neighbours in a vector register or a warp are tokens,
///                                so that a dot product needs no horizontal sum
///   values        int32[P][wV]   word w of token t at t*wV + w: neighbours are elements of one value
///   key scales    f16[P]         formats with a scale only; padded to 4 bytes
///   value scales  f16[P]         the same
///   (padding to 64 bytes)
/// </code>
/// </remarks>
public sealed record PageLayout
{
    /// <summary>Slots start at multiples of this many bytes; a slot number counts these units from the start of the arena.</summary>
    public const int UnitBytes = 64;

    /// <summary>32-bit words in a unit.</summary>
    public const int UnitWords = UnitBytes / sizeof(int);

    /// <summary>Lays out a page.</summary>
    /// <exception cref="ArgumentException">A format does not take the geometry's width.</exception>
    public PageLayout(KvGeometry geometry, PageFormat key, PageFormat value)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ThrowIfRefused(key, geometry.KeyWidth, "key");
        ThrowIfRefused(value, geometry.ValueWidth, "value");
        (KeyFormat, ValueFormat, PageTokens) = (key, value, geometry.PageTokens);
        KeyWords = geometry.KeyWidth / key.ElementsPerWord();
        ValueWords = geometry.ValueWidth / value.ElementsPerWord();
        ValueOffset = checked(KeyWords * PageTokens);
        KeyScaleOffset = checked(ValueOffset + (ValueWords * PageTokens));
        ValueScaleOffset = KeyScaleOffset + ScaleWords(key);
        int words = ValueScaleOffset + ScaleWords(value);
        Units = (words + UnitWords - 1) / UnitWords;
    }

    /// <summary>Format of the keys.</summary>
    public PageFormat KeyFormat { get; }

    /// <summary>Format of the values.</summary>
    public PageFormat ValueFormat { get; }

    /// <summary>Tokens in the page.</summary>
    public int PageTokens { get; }

    /// <summary>Words of one key vector.</summary>
    public int KeyWords { get; }

    /// <summary>Words of one value vector.</summary>
    public int ValueWords { get; }

    /// <summary>First word of the values, from the start of the slot (keys start at 0).</summary>
    public int ValueOffset { get; }

    /// <summary>First word of the key scales.</summary>
    public int KeyScaleOffset { get; }

    /// <summary>First word of the value scales.</summary>
    public int ValueScaleOffset { get; }

    /// <summary>Size of the slot in units of <see cref="UnitBytes"/>.</summary>
    public int Units { get; }

    /// <summary>Size of the slot in bytes.</summary>
    public int Bytes => Units * UnitBytes;

    /// <summary>Formats as people read them, "i8/i8".</summary>
    public override string ToString() =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{KeyFormat}/{ValueFormat}").ToLowerInvariant();

    private int ScaleWords(PageFormat format) => ((format.ScaleBytes() * PageTokens) + 3) / 4;

    private static void ThrowIfRefused(PageFormat format, int width, string part)
    {
        if (!format.Takes(width))
        {
            throw new ArgumentException(
                $"format {format} does not take a {part} width of {width}: expected a multiple of {format.ElementsPerWord()}");
        }
    }
}
