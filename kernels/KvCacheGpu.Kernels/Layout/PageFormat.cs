using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>How the elements of one page part (its keys or its values) are stored.</summary>
/// <remarks>
/// T formats are for keys, V formats for values, the others for both. I8, T and V lie in the rotated basis (<see cref="Rotation"/>);
/// levels are those of <see cref="Levels"/>. Scales are binary16, rounded first and then quantized with.
/// </remarks>
public enum PageFormat : byte
{
    /// <summary>IEEE binary32, plain basis. Takes every head width.</summary>
    F32 = 0,

    /// <summary>IEEE binary16, plain basis, rounded to nearest even. Takes even head widths.</summary>
    F16 = 1,

    /// <summary>bfloat16, plain basis, rounded to nearest even. Takes even head widths.</summary>
    BF16 = 2,

    /// <summary>
    /// Signed 8-bit codes in the rotated basis with one scale per token: s = max(2^-24, amax/127 rounded up),
    /// code = round(x * (1/s)). Takes head widths that are multiples of 4.
    /// </summary>
    I8 = 3,

    /// <summary>
    /// Keys in 4 bits: each token, multiplied by the key scales of its row (<see cref="KvKeyScales"/>) before it is rotated, divided by its rms, less the page's mean, in Lloyd-Max levels with a gain per token
    /// (<see cref="Levels"/>). Takes head widths that are multiples of 8.
    /// </summary>
    T4 = 4,

    /// <summary>Keys in 3 bits, as <see cref="T4"/>.</summary>
    T3 = 5,

    /// <summary>Keys in 2 bits, as <see cref="T4"/>.</summary>
    T2 = 6,

    /// <summary>
    /// Values in 4 bits, rotated, asymmetric: groups of 64 elements (<see cref="PageFormats.ScaleGroup"/>) with a scale and a minimum
    /// each. A page whose scales overflow binary16 stays in full precision. Takes head widths that are multiples of 8.
    /// </summary>
    V4 = 7,

    /// <summary>Values in 3 bits: rotated, divided by their rms, in Lloyd-Max levels. Takes head widths that are multiples of 8.</summary>
    V3 = 8,

    /// <summary>Values in 2 bits, as <see cref="V3"/>.</summary>
    V2 = 9,

    /// <summary>
    /// FP8 E4M3FN, plain basis, scale 1: rounded to nearest even, saturating at 448. Each element is rounded by itself, so that an outlier does
    /// not make the others less precise; in T and q4_0 it does. Takes head widths that are multiples of 4.
    /// </summary>
    FP8 = 10,

    /// <summary>ggml's q8_0, plain basis: blocks of 32 elements, d = amax/127. Takes head widths that are multiples of 32.</summary>
    Q8 = 11,

    /// <summary>ggml's q4_0, plain basis: blocks of 32 elements, d = (the largest, sign kept) / -8. Takes head widths that are multiples of 32.</summary>
    Q4 = 12,
}

/// <summary>Sizes of each <see cref="PageFormat"/>, and the shapes that it accepts.</summary>
public static class PageFormats
{
    private const int GgmlBlock = 32;

    private static readonly string[] Names = ["f32", "f16", "bf16", "i8", "t4", "t3", "t2", "v4", "v3", "v2", "fp8", "q8_0", "q4_0"];

    /// <summary>The format's name as the command line and files write it: f32, f16, bf16, i8, t4 .. v2, fp8, q8_0, q4_0.</summary>
    public static string Name(this PageFormat format) => Names[(int)format];

    /// <summary>Reads a <see cref="Name"/>, in any case.</summary>
    public static bool TryParse(string? text, out PageFormat format)
    {
        int index = Array.FindIndex(Names, name => name.Equals(text, StringComparison.OrdinalIgnoreCase));
        format = (PageFormat)Math.Max(index, 0);
        return index >= 0;
    }

    /// <summary>Bits of one element, scales not counted.</summary>
    public static int BitsPerElement(this PageFormat format) => format switch
    {
        PageFormat.F32 => 32,
        PageFormat.F16 or PageFormat.BF16 => 16,
        PageFormat.I8 or PageFormat.FP8 or PageFormat.Q8 => 8,
        PageFormat.T4 or PageFormat.V4 or PageFormat.Q4 => 4,
        PageFormat.T3 or PageFormat.V3 => 3,
        PageFormat.T2 or PageFormat.V2 => 2,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };

    /// <summary>32-bit words that a vector of <paramref name="width"/> elements takes, the last group padded (<see cref="PageLayout"/>).</summary>
    public static int Words(this PageFormat format, int width) => format switch
    {
        PageFormat.T3 or PageFormat.V3 => (width + 31) / 32 * 3,
        PageFormat.V4 => (width + 15) / 16 * 2,
        _ => ((width * format.BitsPerElement()) + 31) / 32,
    };

    /// <summary>binary16 numbers of scale that a vector has beside its elements: planes, see <see cref="PageLayout"/>.</summary>
    public static int ScalePlanes(this PageFormat format, int width) => format switch
    {
        PageFormat.I8 or PageFormat.V3 or PageFormat.V2 => 1,
        PageFormat.T4 or PageFormat.T3 or PageFormat.T2 => 2,
        PageFormat.V4 => 2 * (width / ScaleGroup(format, width)),
        PageFormat.Q8 or PageFormat.Q4 => width / GgmlBlock,
        _ => 0,
    };

    /// <summary>
    /// Elements that share a scale: the vector; for V4 64 where they divide it, the vector where it is shorter, else the largest of
    /// 32, 16 and 8 that divides it; 32 for ggml's formats.
    /// </summary>
    public static int ScaleGroup(this PageFormat format, int width) => format switch
    {
        PageFormat.V4 => width % 64 == 0 ? 64 : width < 64 ? width : Math.Min(32, Rotation.BlockSize(width)),
        PageFormat.Q8 or PageFormat.Q4 => GgmlBlock,
        _ => width,
    };

    /// <summary>Bytes of scale that a vector of <paramref name="width"/> elements takes beside them.</summary>
    public static int ScaleBytes(this PageFormat format, int width) => 2 * format.ScalePlanes(width);

    /// <summary>True if vectors lie in the rotated basis (see <see cref="Rotation"/>).</summary>
    public static bool IsRotated(this PageFormat format) => format is >= PageFormat.I8 and <= PageFormat.V2;

    /// <summary>True if the format can hold an open page: it is written token by token, and read back exactly as it was rounded.</summary>
    public static bool IsFullPrecision(this PageFormat format) => format <= PageFormat.BF16;

    /// <summary>True if the format stores keys less their page's mean: T4, T3, T2.</summary>
    public static bool IsCentered(this PageFormat format) => format is PageFormat.T4 or PageFormat.T3 or PageFormat.T2;

    /// <summary>True if keys may lie in this format.</summary>
    public static bool IsForKeys(this PageFormat format) => format is not (PageFormat.V4 or PageFormat.V3 or PageFormat.V2);

    /// <summary>True if values may lie in this format.</summary>
    public static bool IsForValues(this PageFormat format) => !format.IsCentered();

    /// <summary>
    /// True if there is attention for pages of this pair of formats: a format with itself, T with the V of as many bits, and I8 with all.
    /// </summary>
    public static bool IsPair(PageFormat key, PageFormat value)
    {
        bool isNatural = key.IsCentered() ? value - key == PageFormat.V4 - PageFormat.T4 : key == value;
        return key.IsForKeys() && value.IsForValues() && (isNatural || key == PageFormat.I8 || value == PageFormat.I8);
    }

    /// <summary>
    /// The smallest magnitude that the format refuses, as binary32 bits: half a step beyond its largest number. Quantized
    /// formats refuse the same numbers as F16, so that their scales, and a reopened page, stay finite.
    /// </summary>
    public static uint RefusedFrom(this PageFormat format) => format switch
    {
        PageFormat.F32 => 0x7F800000,
        PageFormat.BF16 => 0x7F7F8000,
        _ => 0x477FF000, // 65520
    };

    /// <summary>Head widths that the format takes are multiples of this.</summary>
    public static int WidthMultiple(this PageFormat format) => format switch
    {
        PageFormat.F32 => 1,
        PageFormat.F16 or PageFormat.BF16 => 2,
        PageFormat.I8 or PageFormat.FP8 => 4,
        PageFormat.Q8 or PageFormat.Q4 => GgmlBlock,
        _ => 8,
    };

    /// <summary>True if the format takes vectors of <paramref name="width"/> elements.</summary>
    public static bool Takes(this PageFormat format, int width) =>
        width is >= KvGeometry.MinWidth and <= KvGeometry.MaxWidth && width % format.WidthMultiple() == 0;
}
