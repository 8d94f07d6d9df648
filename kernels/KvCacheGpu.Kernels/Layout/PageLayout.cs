namespace KvCacheGpu.Kernels;

/// <summary>
/// Where everything lies in a page slot. The only authority on bytes: kernels, pools and plans ask here.
/// </summary>
/// <remarks>
/// <code>
/// A slot holds P tokens of one (sequence, layer, KV head). Elements are packed into 32-bit words, little end first;
/// wK and wV are the words of one key and one value vector, sK and sV the f16 scales that each has.
///
///   keys          int32[wK][P]   word w of token t at w*P + t: neighbours in a vector register or a warp are tokens,
///                                so that a dot product needs no horizontal sum
///   values        int32[P][wV]   word w of token t at t*wV + w: neighbours are elements of one value
///   key scales    f16[sK][P']    planes over tokens; P' is P rounded up to even
///   value scales  f16[sV][P']    the same
///   mean          f16[keyWidth]  of the page's keys in the basis in which they lie, saturated at 65504; T formats: mu, in units of r, under key scales
///   deviation     f16[keyWidth]  their standard deviation, likewise (both: layouts of sealed pages only; each padded to 4 bytes)
///   (padding to 64 bytes)
///
/// Elements in words (keys and values alike; e is the element, j counts from the low end):
///   F32          word e
///   F16, BF16    word e/2, half e%2
///   I8, FP8, Q8  word e/4, byte e%4
///   T4           word e/8, nibble e%8
///   T2, V2       word e/16, bit pair e%16
///   T3, V3       32 elements in three words: bit pairs of elements 0..15, of 16..31, then one word of third (high) bits: of elements
///                f = 0..15 and 16 + f at bits 4 (f/2) + f%2 and 4 (f/2) + 2 + f%2, so that masks make nibbles of pairs and third bits
///   V4           16 elements in two words: word e%2, nibble e/2
///   Q4           32 elements in four words: byte e%16, low nibble for e below 16, else high
/// Scale planes: I8 s | T r, g | V4 s, m for each group in turn | V3, V2 r | Q8, Q4 d for each block of 32.
/// </code>
/// Thread safety: it never changes.
/// </remarks>
public sealed record PageLayout
{
    /// <summary>Slots start at multiples of this many bytes; a slot number counts these units from the start of the arena.</summary>
    public const int UnitBytes = 64;

    /// <summary>32-bit words in a unit.</summary>
    public const int UnitWords = UnitBytes / sizeof(int);

    /// <summary>Lays out a page.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="key">Format of the keys.</param>
    /// <param name="value">Format of the values.</param>
    /// <param name="hasDigest">
    /// True if the page carries its keys' mean and deviation, as sealed pages do. The default value is true. T formats always carry them.
    /// </param>
    /// <exception cref="ArgumentException">A format does not take the geometry's width, or the two are no pair (<see cref="PageFormats.IsPair"/>).</exception>
    public PageLayout(KvGeometry geometry, PageFormat key, PageFormat value, bool hasDigest = true)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        if (!PageFormats.IsPair(key, value))
        {
            throw new ArgumentException(
                $"keys in {key.Name()} and values in {value.Name()}: expected a format with itself, t4/v4, t3/v3, t2/v2, or i8 with any");
        }

        ThrowIfRefused(key, geometry.KeyWidth, "key");
        ThrowIfRefused(value, geometry.ValueWidth, "value");
        (KeyFormat, ValueFormat, PageTokens, HasDigest) = (key, value, geometry.PageTokens, hasDigest || key.IsCentered());
        KeyWords = key.Words(geometry.KeyWidth);
        ValueWords = value.Words(geometry.ValueWidth);
        KeyScalePlanes = key.ScalePlanes(geometry.KeyWidth);
        ValueScalePlanes = value.ScalePlanes(geometry.ValueWidth);
        ScaleStride = (PageTokens + 1) & ~1;
        DigestStride = (geometry.KeyWidth + 1) & ~1;
        ValueOffset = checked(KeyWords * PageTokens);
        KeyScaleOffset = checked(ValueOffset + (ValueWords * PageTokens));
        ValueScaleOffset = KeyScaleOffset + (KeyScalePlanes * ScaleStride / 2);
        DigestOffset = ValueScaleOffset + (ValueScalePlanes * ScaleStride / 2);
        int words = DigestOffset + (HasDigest ? DigestStride : 0);
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

    /// <summary>Scales of one key vector.</summary>
    public int KeyScalePlanes { get; }

    /// <summary>Scales of one value vector.</summary>
    public int ValueScalePlanes { get; }

    /// <summary>binary16 numbers from one plane of scales to the next.</summary>
    public int ScaleStride { get; }

    /// <summary>First word of the key scales.</summary>
    public int KeyScaleOffset { get; }

    /// <summary>First word of the value scales.</summary>
    public int ValueScaleOffset { get; }

    /// <summary>True if the page carries its keys' mean and deviation.</summary>
    public bool HasDigest { get; }

    /// <summary>First word of the mean.</summary>
    public int DigestOffset { get; }

    /// <summary>binary16 numbers from the start of the mean to the deviation.</summary>
    public int DigestStride { get; }

    /// <summary>Size of the slot in units of <see cref="UnitBytes"/>.</summary>
    public int Units { get; }

    /// <summary>Size of the slot in bytes.</summary>
    public int Bytes => Units * UnitBytes;

    /// <summary>Formats as people read them, "i8/i8".</summary>
    public override string ToString() => $"{KeyFormat.Name()}/{ValueFormat.Name()}";

    private static void ThrowIfRefused(PageFormat format, int width, string part)
    {
        if (!format.Takes(width))
        {
            throw new ArgumentException(
                $"format {format.Name()} does not take a {part} width of {width}: expected a multiple of {format.WidthMultiple()}");
        }
    }
}
