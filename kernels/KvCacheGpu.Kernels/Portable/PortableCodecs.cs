using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The numbers that a vector has beside its elements: planes of binary16 (<see cref="PageLayout"/>).</summary>
internal enum Scaling
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>One scale: I8, V3, V2.</summary>
    Vector,

    /// <summary>An rms and a gain, around the page's mean: T formats.</summary>
    Gain,

    /// <summary>A scale and a minimum for each group: V4.</summary>
    Group,

    /// <summary>A scale for each block of 32: ggml's formats.</summary>
    Block,
}

/// <summary>
/// How one page format packs elements into 32-bit words, as device code reads it: instance methods on <c>default(T)</c>, so that
/// ILGPU compiles one kernel per format with every constant folded. A chunk is the fewest words that hold whole elements.
/// </summary>
internal interface IPortableCodec
{
    /// <summary>Words of a chunk, 1..3.</summary>
    int WordsPerChunk { get; }

    /// <summary>Elements of a chunk.</summary>
    int ElementsPerChunk { get; }

    /// <summary>True if a chunk's elements come from both halves of a block of 32.</summary>
    bool IsSplit { get; }

    /// <summary>The scales of a vector.</summary>
    Scaling Scales { get; }

    /// <summary>True if vectors lie in the rotated basis.</summary>
    bool IsRotated { get; }

    /// <summary>Bits of a level's code (<see cref="Levels"/>), 0 where codes are numbers.</summary>
    int LevelBits { get; }

    /// <summary>The largest number that the format holds, as binary32 bits; infinity where it saturates by itself.</summary>
    uint Largest { get; }

    /// <summary>The chunk's word with the (low) bits of element <paramref name="j"/>.</summary>
    int LowWord(int j);

    /// <summary>Element <paramref name="j"/> of a chunk, not scaled; <paramref name="high"/> is a chunk's third word.</summary>
    float Decode(int low, int high, int j, ArrayView<float> levels);

    /// <summary>The code of (<paramref name="x"/> - <paramref name="offset"/>) * <paramref name="inverse"/>; plain formats take neither.</summary>
    uint Code(float x, float offset, float inverse, ArrayView<float> boundaries);

    /// <summary>A code's bits where element <paramref name="j"/> has them in a chunk's word.</summary>
    uint Place(uint code, int j, int word);
}

/// <summary>binary32.</summary>
internal readonly struct F32Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 1;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x7F7FFFFF;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => Interop.IntAsFloat((uint)low);

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => Interop.FloatAsInt(x);

    public uint Place(uint code, int j, int word) => code;
}

/// <summary>binary16.</summary>
internal readonly struct F16Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 2;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x477FE000; // 65504

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) =>
        Interop.IntAsFloat(Bits16.SingleBitsFromHalf(((uint)low >> (16 * j)) & 0xFFFF));

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => Bits16.HalfFromSingleBits(Interop.FloatAsInt(x));

    public uint Place(uint code, int j, int word) => code << (16 * j);
}

/// <summary>bfloat16.</summary>
internal readonly struct BF16Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 2;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x7F7F0000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) =>
        Interop.IntAsFloat(Bits16.SingleBitsFromBFloat16(((uint)low >> (16 * j)) & 0xFFFF));

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => Bits16.BFloat16FromSingleBits(Interop.FloatAsInt(x));

    public uint Place(uint code, int j, int word) => code << (16 * j);
}

/// <summary>FP8 E4M3FN.</summary>
internal readonly struct Fp8Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 4;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.None;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) =>
        Interop.IntAsFloat(Bits8.SingleBitsFromFp8(((uint)low >> (8 * j)) & 0xFF));

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => Bits8.Fp8FromSingleBits(Interop.FloatAsInt(x));

    public uint Place(uint code, int j, int word) => code << (8 * j);
}

/// <summary>8-bit codes with a binary16 scale per vector, rotated.</summary>
internal readonly struct I8Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 4;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.Vector;

    public bool IsRotated => true;

    public int LevelBits => 0;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => (low << (24 - (8 * j))) >> 24;

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => (uint)PortableMath.RoundToInt7(x * inverse) & 0xFF;

    public uint Place(uint code, int j, int word) => code << (8 * j);
}

/// <summary>4-bit codes with a scale and a minimum per group, rotated; even elements in a chunk's first word, odd ones in its second.</summary>
internal readonly struct V4Codec : IPortableCodec
{
    public int WordsPerChunk => 2;

    public int ElementsPerChunk => 16;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.Group;

    public bool IsRotated => true;

    public int LevelBits => 0;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => j & 1;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => (low >> (4 * (j >> 1))) & 15;

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => PortableMath.RoundToNibble((x - offset) * inverse);

    public uint Place(uint code, int j, int word) => (j & 1) == word ? code << (4 * (j >> 1)) : 0;
}

/// <summary>ggml's q8_0.</summary>
internal readonly struct Q8Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 4;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.Block;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => (low << (24 - (8 * j))) >> 24;

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => (uint)PortableMath.RoundAway(x * inverse) & 0xFF;

    public uint Place(uint code, int j, int word) => code << (8 * j);
}

/// <summary>ggml's q4_0: a word holds four elements of a block's first half in low nibbles, four of its second in high ones.</summary>
internal readonly struct Q4Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 8;

    public bool IsSplit => true;

    public Scaling Scales => Scaling.Block;

    public bool IsRotated => false;

    public int LevelBits => 0;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => ((low >> Shift(j)) & 15) - 8;

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => PortableMath.GgmlNibble(x * inverse);

    public uint Place(uint code, int j, int word) => code << Shift(j);

    private static int Shift(int j) => (8 * (j & 3)) + (4 * (j >> 2));
}
