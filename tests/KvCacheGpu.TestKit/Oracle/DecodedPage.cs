using System.Buffers.Binary;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A page's vectors in double, read from its bytes by the map drawn in <see cref="PageLayout"/>: own decoding of every
/// format, own un-rotation.
/// </summary>
public sealed class DecodedPage
{
    private readonly byte[] _bytes;
    private readonly PageLayout _layout;

    /// <summary>Decodes the first <paramref name="tokens"/> tokens of a slot's bytes.</summary>
    public DecodedPage(byte[] bytes, PageLayout layout, KvGeometry geometry, ulong rotationSeed, int tokens)
    {
        (_bytes, _layout) = (bytes, layout);
        float[] keySigns = Rotation.Signs(geometry.KeyWidth, rotationSeed);
        float[] valueSigns = Rotation.Signs(geometry.ValueWidth, rotationSeed);
        StoredKeys = [.. Enumerable.Range(0, tokens).Select(t => StoredKey(t, geometry.KeyWidth))];
        StoredValues = [.. Enumerable.Range(0, tokens).Select(t => StoredValue(t, geometry.ValueWidth))];
        Keys = layout.KeyFormat.IsRotated() ? [.. StoredKeys.Select(k => HadamardMatrix.Undo(k, keySigns))] : StoredKeys;
        Values = layout.ValueFormat.IsRotated() ? [.. StoredValues.Select(v => HadamardMatrix.Undo(v, valueSigns))] : StoredValues;
    }

    /// <summary>Keys in the plain basis, one vector per token.</summary>
    public double[][] Keys { get; }

    /// <summary>Values in the plain basis.</summary>
    public double[][] Values { get; }

    /// <summary>Keys in the basis they are stored in.</summary>
    public double[][] StoredKeys { get; }

    /// <summary>Values in the basis they are stored in.</summary>
    public double[][] StoredValues { get; }

    /// <summary>The scale of a token's key: 1 where the format has none.</summary>
    public double KeyScale(int token) =>
        _layout.KeyFormat == PageFormat.I8 ? Half16(_layout.KeyScaleOffset * 4 + token * 2) : 1;

    /// <summary>The scale of a token's value.</summary>
    public double ValueScale(int token) =>
        _layout.ValueFormat == PageFormat.I8 ? Half16(_layout.ValueScaleOffset * 4 + token * 2) : 1;

    /// <summary>Element e of token t's key: in word e / n of [wK][P].</summary>
    public static int KeyByte(PageLayout layout, int token, int element)
    {
        int size = layout.KeyFormat.BitsPerElement() / 8;
        int word = element * size / 4;
        return ((word * layout.PageTokens) + token) * 4 + (element * size % 4);
    }

    /// <summary>Element e of token t's value: vectors side by side.</summary>
    public static int ValueByte(PageLayout layout, int token, int element) =>
        ((layout.ValueOffset + (token * layout.ValueWords)) * 4) + (element * layout.ValueFormat.BitsPerElement() / 8);

    private double[] StoredKey(int token, int width) =>
        [.. Enumerable.Range(0, width).Select(e => Element(_layout.KeyFormat, KeyByte(_layout, token, e)) * KeyScale(token))];

    private double[] StoredValue(int token, int width) =>
        [.. Enumerable.Range(0, width).Select(e => Element(_layout.ValueFormat, ValueByte(_layout, token, e)) * ValueScale(token))];

    private double Element(PageFormat format, int at) => format switch
    {
        PageFormat.F32 => BinaryPrimitives.ReadSingleLittleEndian(_bytes.AsSpan(at)),
        PageFormat.F16 => Half16(at),
        PageFormat.BF16 => Brain16(at),
        PageFormat.I8 => (sbyte)_bytes[at],
        _ => throw new ArgumentOutOfRangeException(nameof(format)),
    };

    private double Half16(int at)
    {
        int bits = _bytes[at] | (_bytes[at + 1] << 8);
        (int exponent, int fraction) = ((bits >> 10) & 31, bits & 1023);
        double magnitude = exponent switch
        {
            0 => Math.ScaleB(fraction, -24),
            31 => fraction == 0 ? double.PositiveInfinity : double.NaN,
            _ => Math.ScaleB(1024 + fraction, exponent - 25),
        };
        return (bits & 0x8000) == 0 ? magnitude : -magnitude;
    }

    private double Brain16(int at)
    {
        int bits = _bytes[at] | (_bytes[at + 1] << 8);
        (int exponent, int fraction) = ((bits >> 7) & 255, bits & 127);
        double magnitude = exponent switch
        {
            0 => Math.ScaleB(fraction, -133),
            255 => fraction == 0 ? double.PositiveInfinity : double.NaN,
            _ => Math.ScaleB(128 + fraction, exponent - 134),
        };
        return (bits & 0x8000) == 0 ? magnitude : -magnitude;
    }
}
