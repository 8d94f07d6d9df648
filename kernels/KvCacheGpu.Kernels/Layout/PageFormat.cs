namespace KvCacheGpu.Kernels;

/// <summary>How the elements of one page part (its keys or its values) are stored.</summary>
public enum PageFormat : byte
{
    /// <summary>IEEE binary32, plain basis. Takes every head width.</summary>
    F32 = 0,

    /// <summary>IEEE binary16, plain basis, rounded to nearest even. Takes even head widths.</summary>
    F16 = 1,

    /// <summary>bfloat16, plain basis, rounded to nearest even. Takes even head widths.</summary>
    BF16 = 2,

    /// <summary>
    /// Signed 8-bit codes in the rotated basis with one binary16 scale per (token, head):
    /// s = max(2^-24, amax/127 rounded up), code = round(x/s). Takes head widths that are multiples of 4.
    /// </summary>
    I8 = 3,
}

/// <summary>What each <see cref="PageFormat"/> stores and accepts.</summary>
public static class PageFormats
{
    /// <summary>Bits that one element takes, scales not counted.</summary>
    public static int BitsPerElement(this PageFormat format) => format switch
    {
        PageFormat.F32 => 32,
        PageFormat.F16 or PageFormat.BF16 => 16,
        PageFormat.I8 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };

    /// <summary>Elements in one 32-bit word, the unit in which kernels read pages.</summary>
    public static int ElementsPerWord(this PageFormat format) => 32 / format.BitsPerElement();

    /// <summary>Bytes of scale that one token's vector takes beside its elements.</summary>
    public static int ScaleBytes(this PageFormat format) => format == PageFormat.I8 ? 2 : 0;

    /// <summary>Whether vectors lie in the rotated basis (see <see cref="Rotation"/>).</summary>
    public static bool IsRotated(this PageFormat format) => format == PageFormat.I8;

    /// <summary>Whether the format can hold an open page: written token by token, read back exactly as rounded.</summary>
    public static bool IsFullPrecision(this PageFormat format) => format != PageFormat.I8;

    /// <summary>
    /// The smallest magnitude that the format refuses, as binary32 bits: half a step beyond its largest number. I8 takes what F16
    /// takes, so that its scales, and a reopened page, stay finite.
    /// </summary>
    public static uint RefusedFrom(this PageFormat format) => format switch
    {
        PageFormat.F32 => 0x7F800000,
        PageFormat.BF16 => 0x7F7F8000,
        _ => 0x477FF000, // 65520
    };

    /// <summary>Whether vectors of <paramref name="width"/> elements fill whole words of this format.</summary>
    public static bool Takes(this PageFormat format, int width) =>
        width is >= KvGeometry.MinWidth and <= KvGeometry.MaxWidth && width % format.ElementsPerWord() == 0;

    /// <summary>Reads a format's name as the command line and files write it: f32, f16, bf16, i8 (any case).</summary>
    public static bool TryParse(string? text, out PageFormat format) =>
        Enum.TryParse(text, ignoreCase: true, out format) && Enum.IsDefined(format) && !int.TryParse(text, out _);
}
