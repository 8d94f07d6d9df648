using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// ggml's blocks of 32 elements, byte for byte as its files hold them, to compare with pages in <see cref="PageFormat.Q8"/> and
/// <see cref="PageFormat.Q4"/>, which hold the same numbers in other places.
/// <code>
///   q8_0  34 bytes   f16 d | int8 q[32]                                      x = d * q
///   q4_0  18 bytes   f16 d | byte j: element j low nibble, j + 16 high       x = d * (q - 8)
/// </code>
/// A block read into floats and appended to an F32 page is the same block once the page is sealed: d * q quantizes to d and q
/// again (except where d is subnormal in binary16: then it may round to a neighbour).
/// </summary>
/// <remarks>Source: ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q4_0_ref.</remarks>
public static class GgmlBlocks
{
    /// <summary>Elements of a block.</summary>
    public const int Elements = GgmlCodes.Elements;

    private const int ScaleBytes = 2;
    private const int Codes4 = Elements / 2;

    /// <summary>Bytes of one block: 34 in q8_0, 18 in q4_0.</summary>
    public static int BlockBytes(PageFormat format) => ScaleBytes + (format switch
    {
        PageFormat.Q8 => Elements,
        PageFormat.Q4 => Codes4,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "expected Q8 or Q4"),
    });

    /// <summary>Bytes of <paramref name="width"/> elements, a multiple of 32.</summary>
    public static int BytesOf(PageFormat format, int width) => width % Elements == 0
        ? width / Elements * BlockBytes(format)
        : throw new ArgumentException($"width: expected a multiple of {Elements}, got {width}", nameof(width));

    /// <summary>Quantizes elements as ggml's reference does.</summary>
    /// <param name="format">Q8 or Q4.</param>
    /// <param name="elements">Finite elements, a multiple of 32.</param>
    /// <param name="blocks">Out: their blocks.</param>
    public static void Quantize(PageFormat format, ReadOnlySpan<float> elements, Span<byte> blocks)
    {
        ThrowIfNotLength(blocks.Length, BytesOf(format, elements.Length), nameof(blocks));
        Span<byte> codes = stackalloc byte[Elements];
        for (int size = BlockBytes(format); !elements.IsEmpty; elements = elements[Elements..], blocks = blocks[size..])
        {
            BinaryPrimitives.WriteUInt16LittleEndian(blocks, GgmlCodes.Encode(format, elements[..Elements], codes));
            Pack(format, codes, blocks[ScaleBytes..size]);
        }
    }

    /// <summary>Reads blocks back into elements.</summary>
    /// <param name="format">Q8 or Q4.</param>
    /// <param name="blocks">Whole blocks.</param>
    /// <param name="elements">Out: their elements.</param>
    public static void Dequantize(PageFormat format, ReadOnlySpan<byte> blocks, Span<float> elements)
    {
        ThrowIfNotLength(blocks.Length, BytesOf(format, elements.Length), nameof(blocks));
        for (int size = BlockBytes(format); !blocks.IsEmpty; elements = elements[Elements..], blocks = blocks[size..])
        {
            float d = (float)BinaryPrimitives.ReadHalfLittleEndian(blocks);
            ReadOnlySpan<byte> codes = blocks[ScaleBytes..size];
            for (int i = 0; i < Elements; i++)
            {
                elements[i] = format == PageFormat.Q8
                    ? (sbyte)codes[i] * d
                    : ((i < Codes4 ? codes[i] & 15 : codes[i - Codes4] >> 4) - 8) * d;
            }
        }
    }

    /// <summary>One key or value of a page as ggml's blocks.</summary>
    /// <param name="layout">The page's layout; the part's format is Q8 or Q4.</param>
    /// <param name="page">The page's words (<see cref="KernelTier.Read"/>).</param>
    /// <param name="isValue">The value; else the key.</param>
    /// <param name="token">The token in the page.</param>
    /// <param name="blocks">Out: the vector's blocks.</param>
    public static void FromPage(PageLayout layout, ReadOnlySpan<int> page, bool isValue, int token, Span<byte> blocks)
    {
        VectorPlace place = Place(layout, page.Length, isValue, token, blocks.Length);
        ReadOnlySpan<ushort> scales = MemoryMarshal.Cast<int, ushort>(page);
        Span<int> words = stackalloc int[Elements / sizeof(int)];
        for (int block = 0, w = 0; block < place.Blocks; block++)
        {
            Span<byte> target = blocks.Slice(block * place.BlockBytes, place.BlockBytes);
            BinaryPrimitives.WriteUInt16LittleEndian(target, scales[place.Scale + (block * layout.ScaleStride)]);
            for (int i = 0; i < place.BlockWords; i++, w++)
            {
                words[i] = page[place.Word + (w * place.Step)];
            }

            MemoryMarshal.AsBytes(words[..place.BlockWords]).CopyTo(target[ScaleBytes..]);
        }
    }

    /// <summary>Writes one key or value of a page from ggml's blocks. The page's digest is the caller's.</summary>
    /// <param name="layout">The page's layout; the part's format is Q8 or Q4.</param>
    /// <param name="page">The page's words (<see cref="KernelTier.Load"/>).</param>
    /// <param name="isValue">The value; else the key.</param>
    /// <param name="token">The token in the page.</param>
    /// <param name="blocks">The vector's blocks.</param>
    public static void ToPage(PageLayout layout, Span<int> page, bool isValue, int token, ReadOnlySpan<byte> blocks)
    {
        VectorPlace place = Place(layout, page.Length, isValue, token, blocks.Length);
        Span<ushort> scales = MemoryMarshal.Cast<int, ushort>(page);
        Span<int> words = stackalloc int[Elements / sizeof(int)];
        for (int block = 0, w = 0; block < place.Blocks; block++)
        {
            ReadOnlySpan<byte> source = blocks.Slice(block * place.BlockBytes, place.BlockBytes);
            scales[place.Scale + (block * layout.ScaleStride)] = BinaryPrimitives.ReadUInt16LittleEndian(source);
            source[ScaleBytes..].CopyTo(MemoryMarshal.AsBytes(words));
            for (int i = 0; i < place.BlockWords; i++, w++)
            {
                page[place.Word + (w * place.Step)] = words[i];
            }
        }
    }

    private static void Pack(PageFormat format, ReadOnlySpan<byte> codes, Span<byte> target)
    {
        if (format == PageFormat.Q8)
        {
            codes.CopyTo(target);
            return;
        }

        for (int i = 0; i < Codes4; i++)
        {
            target[i] = (byte)(codes[i] | (codes[i + Codes4] << 4));
        }
    }

    private static VectorPlace Place(PageLayout layout, int pageWords, bool isValue, int token, int bytes)
    {
        ArgumentNullException.ThrowIfNull(layout);
        ArgumentOutOfRangeException.ThrowIfNegative(token);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(token, layout.PageTokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(pageWords, layout.Units * PageLayout.UnitWords, "page");
        PageFormat format = isValue ? layout.ValueFormat : layout.KeyFormat;
        int blockBytes = BlockBytes(format);
        int blocks = isValue ? layout.ValueScalePlanes : layout.KeyScalePlanes;
        ThrowIfNotLength(bytes, blocks * blockBytes, "blocks");
        return new VectorPlace(
            isValue ? layout.ValueOffset + (token * layout.ValueWords) : token,
            isValue ? 1 : layout.PageTokens,
            (2 * (isValue ? layout.ValueScaleOffset : layout.KeyScaleOffset)) + token,
            blocks,
            blockBytes,
            (blockBytes - ScaleBytes) / sizeof(int));
    }

    private static void ThrowIfNotLength(int length, int expected, string name)
    {
        if (length != expected)
        {
            throw new ArgumentException($"{name}: expected {expected} bytes, got {length}", name);
        }
    }

    private readonly record struct VectorPlace(int Word, int Step, int Scale, int Blocks, int BlockBytes, int BlockWords);
}
