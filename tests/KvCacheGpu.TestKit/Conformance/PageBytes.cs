using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Writes the bytes that an open page must hold, by the drawn layout and the runtime's own conversions.</summary>
public static class PageBytes
{
    public static void PutKey(byte[] page, KernelShape shape, int token, ReadOnlySpan<float> key) =>
        Put(page, new PartPlace(shape.Classes[KernelShape.Open], shape.Geometry, isValue: false), token, key);

    public static void PutValue(byte[] page, KernelShape shape, int token, ReadOnlySpan<float> value) =>
        Put(page, new PartPlace(shape.Classes[KernelShape.Open], shape.Geometry, isValue: true), token, value);

    /// <summary>A single as a full-precision format holds it.</summary>
    public static float Rounded(PageFormat format, float x) => format switch
    {
        PageFormat.F32 => x,
        PageFormat.F16 => (float)(Half)x,
        _ => BitConverter.UInt32BitsToSingle((uint)Round16.BFloat16(x) << 16),
    };

    private static void Put(byte[] page, PartPlace place, int token, ReadOnlySpan<float> vector)
    {
        Span<int> words = MemoryMarshal.Cast<byte, int>(page.AsSpan())[place.FirstWord(token)..];
        for (int e = 0; e < vector.Length; e++)
        {
            uint single = BitConverter.SingleToUInt32Bits(Rounded(place.Format, vector[e]));
            uint code = place.Format switch
            {
                PageFormat.F32 => single,
                PageFormat.F16 => BitConverter.HalfToUInt16Bits((Half)vector[e]),
                _ => single >> 16,
            };
            CodeMap.Write(place.Format, words, place.WordStride, e, code);
        }
    }
}
