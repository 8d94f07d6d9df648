
using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>What an mma multiplies, and in how many parts the other factor must be entered to lose nothing.</summary>
internal enum TileArithmetic
{
    /// <summary>binary16: the other factor in two parts of 11 bits.</summary>
    Halves,

    /// <summary>bfloat16: in three parts of 8 bits.</summary>
    BFloats,

    /// <summary>Signed bytes: in three limbs of 8 bits, whose sums are joined afterwards.</summary>
    Bytes,
}

/// <summary>A lane's words of two neighbouring tokens, as they lie: X of the even one, Y of the odd one.</summary>
internal struct KeyWords
{
    public Words2 A;
    public Words2 B;
    public Words2 C;
}

/// <summary>
/// How the keys of a format become A operands of mma, 16 tokens by 16 or 32 elements. The elements of a vector may take any order, as long as queries take the same one
/// (<see cref="Element"/>): each lane uses the words that lie nearest to it.
/// </summary>
/// <remarks>A chunk is what the four lanes of a row load at once. Lane q of them loads the words ChunkWords c + LaneWords q, and those LoadStride behind.</remarks>
internal interface IKeyTiles
{
    TileArithmetic Arithmetic { get; }

    /// <summary>How keys are scaled.</summary>
    Scaling Scales { get; }

    int ChunkWords { get; }

    /// <summary>Words of a key of a width.</summary>
    int Words(int width);

    int LaneWords { get; }

    /// <summary>Words that a lane loads of each token: 1, 2 or 3.</summary>
    int Loads { get; }

    int LoadStride { get; }

    /// <summary>1 if keys lie around their page's mean, else 0.</summary>
    int HasMean { get; }

    /// <summary>Parts in which queries are entered: 2 or 3. A number, not a question about <see cref="Arithmetic"/>: ILGPU unrolls loops of constants only.</summary>
    int Parts { get; }

    /// <summary>Keys are 2^this times as large as their operands.</summary>
    int Exponent { get; }

    /// <summary>Elements of a step: 16 or 32.</summary>
    int StepElements { get; }

    /// <summary>Steps of mma that a chunk's words give.</summary>
    int Steps { get; }

    /// <summary>The bytes that codes are looked up in; none for formats that have no codes.</summary>
    Words2 Levels { get; }

    /// <summary>The A operand of a step: of the even token, of the odd one, then both again. <paramref name="levels"/>: <see cref="Levels"/>, in registers where possible.</summary>
    Words4 Operand(KeyWords words, int step, Words2 levels);

    /// <summary>The element that a lane's part of a chunk has at place i of a step: i counts up in b0, then in b1, from the low end.</summary>
    int Element(int chunk, int step, int quad, int i);
}

/// <summary>F16 keys, as they lie.</summary>
internal readonly struct F16Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public int HasMean => 0;

    public int Parts => 2;

    public int StepElements => 16;

    public int ChunkWords => 8;

    public int Words(int width) => width / 2;

    public int LaneWords => 1;

    public int Loads => 2;

    public int LoadStride => 4;

    public int Steps => 1;

    public Words2 Levels => default;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyOperands.Of(words.A.X, words.A.Y, words.B.X, words.B.Y);

    public int Element(int chunk, int step, int quad, int i) => (16 * chunk) + (8 * (i >> 1)) + (2 * quad) + (i & 1);
}

/// <summary>BF16 keys, as they lie.</summary>
internal readonly struct BF16Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.BFloats;

    public Scaling Scales => Scaling.None;

    public int HasMean => 0;

    public int Parts => 3;

    public int StepElements => 16;

    public int ChunkWords => 8;

    public int Words(int width) => width / 2;

    public int LaneWords => 1;

    public int Loads => 2;

    public int LoadStride => 4;

    public int Steps => 1;

    public Words2 Levels => default;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyOperands.Of(words.A.X, words.A.Y, words.B.X, words.B.Y);

    public int Element(int chunk, int step, int quad, int i) => (16 * chunk) + (8 * (i >> 1)) + (2 * quad) + (i & 1);
}

/// <summary>FP8 keys: their bits are those of binary16 numbers 2^8 times as small, moved.</summary>
internal readonly struct Fp8Keys : IKeyTiles
{
    public int Exponent => 8;

    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public int HasMean => 0;

    public int Parts => 2;

    public int StepElements => 16;

    public int ChunkWords => 4;

    public int Words(int width) => width / 4;

    public int LaneWords => 1;

    public int Loads => 1;

    public int LoadStride => 4;

    public int Steps => 1;

    public Words2 Levels => default;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyOperands.Of(
        EightBits.Even(words.A.X), EightBits.Even(words.A.Y), EightBits.Odd(words.A.X), EightBits.Odd(words.A.Y));

    public int Element(int chunk, int step, int quad, int i) => (16 * chunk) + (4 * quad) + (2 * (i & 1)) + (i >> 1);
}

/// <summary>I8 keys, as they lie.</summary>
internal readonly struct I8Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.Bytes;

    public Scaling Scales => Scaling.Vector;

    public int HasMean => 0;

    public int Parts => 3;

    public int StepElements => 32;

    public int ChunkWords => 8;

    public int Words(int width) => width / 4;

    public int LaneWords => 1;

    public int Loads => 2;

    public int LoadStride => 4;

    public int Steps => 1;

    public Words2 Levels => default;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyOperands.Of(words.A.X, words.A.Y, words.B.X, words.B.Y);

    public int Element(int chunk, int step, int quad, int i) => (32 * chunk) + (16 * (i >> 2)) + (4 * quad) + (i & 3);
}

/// <summary>T4 keys: a word gives the levels of eight elements, less a half.</summary>
internal readonly struct T4Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.Bytes;

    public Scaling Scales => Scaling.Gain;

    public int HasMean => 1;

    public int Parts => 3;

    public int StepElements => 32;

    public int ChunkWords => 4;

    public int Words(int width) => width / 8;

    public int LaneWords => 1;

    public int Loads => 1;

    public int LoadStride => 4;

    public int Steps => 1;

    public Words2 Levels => KeyLevels.FourBits;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyLevels.OfFour(words, levels);

    public int Element(int chunk, int step, int quad, int i) => (32 * chunk) + (8 * quad) + i;
}

/// <summary>T3 keys: three words give the levels of 32 elements, less a half.</summary>
internal readonly struct T3Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.Bytes;

    public Scaling Scales => Scaling.Gain;

    public int HasMean => 1;

    public int Parts => 3;

    public int StepElements => 32;

    public int ChunkWords => 12;

    public int Words(int width) => (width + 31) / 32 * 3;

    public int LaneWords => 3;

    public int Loads => 3;

    public int LoadStride => 1;

    public int Steps => 4;

    public Words2 Levels => KeyLevels.ThreeBits;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyLevels.OfThree(words, step, levels);

    public int Element(int chunk, int step, int quad, int i) => (128 * chunk) + (32 * quad) + (16 * (step >> 1)) + (2 * i) + (step & 1);
}

/// <summary>T2 keys: a word gives the levels of 16 elements, less a half.</summary>
internal readonly struct T2Keys : IKeyTiles
{
    public int Exponent => 0;

    public TileArithmetic Arithmetic => TileArithmetic.Bytes;

    public Scaling Scales => Scaling.Gain;

    public int HasMean => 1;

    public int Parts => 3;

    public int StepElements => 32;

    public int ChunkWords => 4;

    public int Words(int width) => (width + 15) / 16;

    public int LaneWords => 1;

    public int Loads => 1;

    public int LoadStride => 4;

    public int Steps => 2;

    public Words2 Levels => KeyLevels.TwoBits;

    public Words4 Operand(KeyWords words, int step, Words2 levels) => KeyLevels.OfTwo(words, step, levels);

    public int Element(int chunk, int step, int quad, int i) => (64 * chunk) + (16 * quad) + (2 * i) + step;
}

internal static class KeyOperands
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Words4 Of(int x, int y, int z, int w)
    {
        Words4 a = default;
        a.X = x;
        a.Y = y;
        a.Z = z;
        a.W = w;
        return a;
    }
}
