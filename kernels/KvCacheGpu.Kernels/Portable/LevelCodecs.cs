using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How a format of levels is scaled; folded by the compiler.</summary>
internal interface ILevelScaling
{
    Scaling Kind { get; }
}

/// <summary>T formats.</summary>
internal readonly struct ByGain : ILevelScaling
{
    public Scaling Kind => Scaling.Gain;
}

/// <summary>V3 and V2.</summary>
internal readonly struct ByVector : ILevelScaling
{
    public Scaling Kind => Scaling.Vector;
}

/// <summary>T4: nibbles.</summary>
internal readonly struct T4Codec : IPortableCodec
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 8;

    public bool IsSplit => false;

    public Scaling Scales => Scaling.Gain;

    public bool IsRotated => true;

    public int LevelBits => 4;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => levels[(low >> (4 * j)) & 15];

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => LevelTable.Code(4, x * inverse, boundaries);

    public uint Place(uint code, int j, int word) => code << (4 * j);
}

/// <summary>T3 and V3: bit pairs of 16 elements in each of two words, then a word of third bits.</summary>
internal readonly struct ThreeBitCodec<TScaling> : IPortableCodec
    where TScaling : struct, ILevelScaling
{
    public int WordsPerChunk => 3;

    public int ElementsPerChunk => 32;

    public bool IsSplit => false;

    public Scaling Scales => default(TScaling).Kind;

    public bool IsRotated => true;

    public int LevelBits => 3;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => j >> 4;

    public float Decode(int low, int high, int j, ArrayView<float> levels) =>
        levels[((low >> (2 * (j & 15))) & 3) | (((high >> Third(j)) & 1) << 2)];

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => LevelTable.Code(3, x * inverse, boundaries);

    public uint Place(uint code, int j, int word)
    {
        uint pair = (j >> 4) == word ? (code & 3) << (2 * (j & 15)) : 0;
        return word == 2 ? (code >> 2) << Third(j) : pair;
    }

    // The bit of an element's third bit: two of a pair's elements beside those of the pair 16 elements on.
    private static int Third(int j) => (4 * ((j & 15) >> 1)) + (2 * (j >> 4)) + (j & 1);
}

/// <summary>T2 and V2: bit pairs.</summary>
internal readonly struct TwoBitCodec<TScaling> : IPortableCodec
    where TScaling : struct, ILevelScaling
{
    public int WordsPerChunk => 1;

    public int ElementsPerChunk => 16;

    public bool IsSplit => false;

    public Scaling Scales => default(TScaling).Kind;

    public bool IsRotated => true;

    public int LevelBits => 2;

    public uint Largest => 0x7F800000;

    public int LowWord(int j) => 0;

    public float Decode(int low, int high, int j, ArrayView<float> levels) => levels[(low >> (2 * j)) & 3];

    public uint Code(float x, float offset, float inverse, ArrayView<float> boundaries) => LevelTable.Code(2, x * inverse, boundaries);

    public uint Place(uint code, int j, int word) => code << (2 * j);
}
