using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// How one page format packs elements into 32-bit words, as device code reads it: instance methods on <c>default(T)</c>, so that
/// ILGPU compiles one kernel per format with every constant folded.
/// </summary>
internal interface IPortableCodec
{
    /// <summary>Elements in a word.</summary>
    int PerWord { get; }

    /// <summary>Whether vectors carry a scale and lie in the rotated basis.</summary>
    bool IsScaled { get; }

    /// <summary>Element <paramref name="j"/> of a word, not scaled.</summary>
    float Decode(int word, int j);

    /// <summary>The element's bits, in the low end of a word. Scaled formats divide by <paramref name="scale"/>.</summary>
    uint Encode(float x, float scale);

    /// <summary>The largest number that the format holds, as binary32 bits.</summary>
    uint Largest { get; }
}

/// <summary>binary32.</summary>
internal readonly struct F32Codec : IPortableCodec
{
    public int PerWord => 1;

    public bool IsScaled => false;

    public float Decode(int word, int j) => Interop.IntAsFloat((uint)word);

    public uint Encode(float x, float scale) => Interop.FloatAsInt(x);

    public uint Largest => 0x7F7FFFFF;
}

/// <summary>binary16.</summary>
internal readonly struct F16Codec : IPortableCodec
{
    public int PerWord => 2;

    public bool IsScaled => false;

    public float Decode(int word, int j) =>
        Interop.IntAsFloat(Bits16.SingleBitsFromHalf(((uint)word >> (16 * j)) & 0xFFFF));

    public uint Encode(float x, float scale) => Bits16.HalfFromSingleBits(Interop.FloatAsInt(x));

    public uint Largest => 0x477FE000; // 65504
}

/// <summary>bfloat16.</summary>
internal readonly struct BF16Codec : IPortableCodec
{
    public int PerWord => 2;

    public bool IsScaled => false;

    public float Decode(int word, int j) =>
        Interop.IntAsFloat(Bits16.SingleBitsFromBFloat16(((uint)word >> (16 * j)) & 0xFFFF));

    public uint Encode(float x, float scale) => Bits16.BFloat16FromSingleBits(Interop.FloatAsInt(x));

    public uint Largest => 0x7F7F0000;
}

/// <summary>8-bit codes with a binary16 scale per vector, rotated.</summary>
internal readonly struct I8Codec : IPortableCodec
{
    public int PerWord => 4;

    public bool IsScaled => true;

    public float Decode(int word, int j) => (word << (24 - (8 * j))) >> 24;

    public uint Encode(float x, float scale) => (uint)PortableMath.RoundToInt7(x / scale) & 0xFF;

    public uint Largest => 0x7F7FFFFF;
}
