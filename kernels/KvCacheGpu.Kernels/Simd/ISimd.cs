using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// One vector width, so that each kernel is written once: <typeparamref name="F"/> holds floats, <typeparamref name="I"/> as many ints.
/// The vectors are type parameters rather than wrapped, since the JIT keeps bare vectors in registers more reliably.
/// </summary>
internal unsafe interface ISimd<F, I>
    where F : struct
    where I : struct
{
    static abstract int Lanes { get; }

    static abstract F Load(float* p);

    static abstract void Store(float* p, F value);

    static abstract I LoadInt(int* p);

    static abstract void StoreInt(int* p, I value);

    static abstract I WidenInt16(short* p);

    static abstract I WidenInt8(sbyte* p);

    static abstract F All(float value);

    static abstract I AllInt(int value);

    static abstract F Add(F a, F b);

    static abstract F Subtract(F a, F b);

    static abstract F Multiply(F a, F b);

    static abstract F Divide(F a, F b);

    /// <summary>a * b + c, fused where the processor has it.</summary>
    static abstract F MultiplyAdd(F a, F b, F c);

    static abstract F Max(F a, F b);

    static abstract F Min(F a, F b);

    static abstract F Abs(F a);

    static abstract I AddInt(I a, I b);

    static abstract I MaxInt(I a, I b);

    static abstract I And(I a, I b);

    static abstract I Or(I a, I b);

    static abstract I ShiftLeft(I a, int count);

    static abstract I ShiftRight(I a, int count);

    static abstract F ToFloat(I a);

    static abstract F AsFloat(I a);

    static abstract I AsInt(F a);

    /// <summary>Where a is less than b: yes; else no.</summary>
    static abstract F IfLess(F a, F b, F yes, F no);

    static abstract F Index();

    /// <summary>The sum over the lanes of each.</summary>
    static abstract Vector128<float> SumsOf(F a, F b, F c, F d);

    /// <summary>The largest lane of each.</summary>
    static abstract Vector128<float> LargestOf(F a, F b, F c, F d);

    // For attention.

    /// <summary>As many ints as there are lanes, from 0.</summary>
    static abstract I Indices();

    /// <summary>The 64 bits at p in every pair of lanes, the low word in the even one.</summary>
    static abstract I RepeatPair(byte* p);

    static abstract I ShiftRightEach(I a, I counts);

    /// <summary>(a and mask) xor flip.</summary>
    static abstract I AndXor(I a, I mask, I flip);

    /// <summary>Bits of a where the mask has ones, of b elsewhere.</summary>
    static abstract I Select(I mask, I a, I b);

    static abstract F UnsignedToFloat(I a);

    /// <summary>
    /// table[index mod 16]. The caller keeps the table in registers: its first lanes in <paramref name="low"/>, the next in
    /// <paramref name="high"/>; which of the three is read depends on the width.
    /// </summary>
    static abstract F Lookup(float* table, F low, F high, I index);

    /// <summary>2^n * a for |n| below 2^15, to zero below the smallest float; n is a whole number.</summary>
    static abstract F Scale(F a, F n);

    /// <summary>True if <see cref="Fraction"/> is one instruction, and <see cref="Scale"/> takes any n and rounds it down.</summary>
    static abstract bool HasFraction { get; }

    /// <summary>a less the largest whole number that is not above it, 0 for minus infinity; only where <see cref="HasFraction"/>.</summary>
    static abstract F Fraction(F a);

    // For fast attention: products of pairs of 16-bit numbers, two in each lane.

    /// <summary>True if the processor multiplies pairs of 16-bit numbers; the next members are only there where it does.</summary>
    static abstract bool HasPairs { get; }

    /// <summary>The sum of the products of a lane's two 16-bit numbers.</summary>
    static abstract I MultiplyPairs(I a, I b);

    /// <summary>Each lane's even bytes as 16-bit numbers, signs kept: bytes 0 and 2.</summary>
    static abstract I EvenBytes(I a);

    /// <summary>Each lane's odd bytes as 16-bit numbers, signs kept: bytes 1 and 3.</summary>
    static abstract I OddBytes(I a);

    /// <summary>table[index mod 16] for every byte; indices are below 128. The table is 16 bytes, repeated over the vector.</summary>
    static abstract I LookupBytes(I table, I index);

    /// <summary>16 bytes, repeated over the vector.</summary>
    static abstract I RepeatBytes(byte* p);

    /// <summary>Lane i holds the i-th 16 bits of a, and above them those of b.</summary>
    static abstract I InterleaveShorts(byte* a, byte* b);

    /// <summary>The same, but the lower half of the lanes has the first 32 bits of each 64, the upper half the second ones.</summary>
    static abstract I InterleaveHalves(byte* a, byte* b);

    /// <summary>Rounded to the nearest whole number.</summary>
    static abstract I Round(F a);

    /// <summary>The lanes of both in turn: a's first, b's first, a's second ...</summary>
    static abstract (F Low, F High) Zip(F a, F b);

    // For encoding.

    /// <summary>True if <see cref="Pick32"/> is one instruction.</summary>
    static abstract bool PicksFrom32 { get; }

    /// <summary>The elements of low and high, 32 together, that the low five bits of index name; only where <see cref="PicksFrom32"/>.</summary>
    static abstract F Pick32(F low, F high, I index);

    /// <summary>One level of a butterfly inside the vector: a + b at the lower place of each pair that lies half apart, a - b at the upper. Half is a constant at every call.</summary>
    static abstract F Butterfly(F x, int half);

    static abstract F Sqrt(F a);

    /// <summary>Count, plus one where the boundary is less than x.</summary>
    static abstract I CountAbove(I count, F boundary, F x);

    /// <summary>Stores the low byte of each element.</summary>
    static abstract void StoreBytes(byte* p, I value);

    /// <summary>Stores the low 16 bits of each element.</summary>
    static abstract void StoreShorts(ushort* p, I value);

    /// <summary>Transposes a square of as many words as there are lanes, each way; strides in words.</summary>
    static abstract void Transpose(int* from, nint fromStride, int* to, nint toStride);
}
