using System.Buffers.Binary;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Writes the bytes that a page must hold, by the drawn layout and the runtime's own conversions.</summary>
public static class PageBytes
{
    public static void PutKey(byte[] page, PageLayout layout, int token, ReadOnlySpan<float> key)
    {
        for (int e = 0; e < key.Length; e++)
        {
            Put(page.AsSpan(DecodedPage.KeyByte(layout, token, e)), layout.KeyFormat, key[e]);
        }
    }

    public static void PutValue(byte[] page, PageLayout layout, int token, ReadOnlySpan<float> value)
    {
        for (int e = 0; e < value.Length; e++)
        {
            Put(page.AsSpan(DecodedPage.ValueByte(layout, token, e)), layout.ValueFormat, value[e]);
        }
    }

    /// <summary>A single as a full-precision format holds it.</summary>
    public static float Rounded(PageFormat format, float x) => format switch
    {
        PageFormat.F32 => x,
        PageFormat.F16 => (float)(Half)x,
        _ => BitConverter.UInt32BitsToSingle((uint)NearestBFloat16(x) << 16),
    };

    private static void Put(Span<byte> target, PageFormat format, float x)
    {
        switch (format)
        {
            case PageFormat.F32:
                BinaryPrimitives.WriteSingleLittleEndian(target, x);
                break;
            case PageFormat.F16:
                BinaryPrimitives.WriteHalfLittleEndian(target, (Half)x);
                break;
            default:
                BinaryPrimitives.WriteUInt16LittleEndian(target, NearestBFloat16(x));
                break;
        }
    }

    // The nearer neighbour in double, the even one on a tie; finite results only.
    private static ushort NearestBFloat16(float x)
    {
        uint low = BitConverter.SingleToUInt32Bits(x) >> 16;
        double below = BitConverter.UInt32BitsToSingle(low << 16);
        double above = BitConverter.UInt32BitsToSingle((low + 1) << 16);
        (double down, double up) = (Math.Abs(x - below), Math.Abs(above - x));
        return (ushort)(down < up || (down == up && (low & 1) == 0) ? low : low + 1);
    }
}
