using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

internal unsafe struct SimdScalar : ISimd<float, int>
{
    public static int Lanes => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Load(float* p) => *p;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* p, float value) => *p = value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int LoadInt(int* p) => *p;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreInt(int* p, int value) => *p = value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WidenInt16(short* p) => *p;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WidenInt8(sbyte* p) => *p;

    public static float All(float value) => value;

    public static int AllInt(int value) => value;

    public static float Add(float a, float b) => a + b;

    public static float Subtract(float a, float b) => a - b;

    public static float Multiply(float a, float b) => a * b;

    public static float Divide(float a, float b) => a / b;

    public static float MultiplyAdd(float a, float b, float c) => float.MultiplyAddEstimate(a, b, c);

    public static float Max(float a, float b) => a > b ? a : b;

    public static float Min(float a, float b) => a < b ? a : b;

    public static float Abs(float a) => MathF.Abs(a);

    public static int AddInt(int a, int b) => a + b;

    public static int MaxInt(int a, int b) => Math.Max(a, b);

    public static int And(int a, int b) => a & b;

    public static int Or(int a, int b) => a | b;

    public static int ShiftLeft(int a, int count) => a << count;

    public static int ShiftRight(int a, int count) => a >> count;

    public static float ToFloat(int a) => a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float AsFloat(int a) => BitConverter.Int32BitsToSingle(a);

    public static int AsInt(float a) => BitConverter.SingleToInt32Bits(a);

    public static float IfLess(float a, float b, float yes, float no) => a < b ? yes : no;

    public static float Index() => 0;

    public static Vector128<float> SumsOf(float a, float b, float c, float d) => Vector128.Create(a, b, c, d);

    public static Vector128<float> LargestOf(float a, float b, float c, float d) => Vector128.Create(a, b, c, d);

    public static int Indices() => 0;

    public static int RepeatPair(byte* p) => *(int*)p;

    public static int ShiftRightEach(int a, int counts) => a >>> counts;

    public static int AndXor(int a, int mask, int flip) => (a & mask) ^ flip;

    public static int Select(int mask, int a, int b) => (a & mask) | (b & ~mask);

    public static float UnsignedToFloat(int a) => (uint)a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Lookup(float* table, float low, float high, int index) => table[index & 15];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Scale(float a, float n) => a * BitConverter.Int32BitsToSingle(((int)Max(n, -127f) + 127) << 23);

    public static bool HasFraction => false;

    public static float Fraction(float a) => throw new NotSupportedException();

    public static bool HasPairs => false;

    public static int MultiplyPairs(int a, int b) => throw new NotSupportedException();

    public static int EvenBytes(int a) => throw new NotSupportedException();

    public static int OddBytes(int a) => throw new NotSupportedException();

    public static int LookupBytes(int table, int index) => throw new NotSupportedException();

    public static int RepeatBytes(byte* p) => throw new NotSupportedException();

    public static int InterleaveShorts(byte* a, byte* b) => throw new NotSupportedException();

    public static int InterleaveHalves(byte* a, byte* b) => throw new NotSupportedException();

    public static int Round(float a) => throw new NotSupportedException();

    public static (float Low, float High) Zip(float a, float b) => throw new NotSupportedException();

    public static bool PicksFrom32 => false;

    public static float Pick32(float low, float high, int index) => throw new NotSupportedException();

    public static float Butterfly(float x, int half) => x;

    public static float Sqrt(float a) => MathF.Sqrt(a);

    public static int CountAbove(int count, float boundary, float x) => boundary < x ? count + 1 : count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBytes(byte* p, int value) => *p = (byte)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreShorts(ushort* p, int value) => *p = (ushort)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(int* from, nint fromStride, int* to, nint toStride) => *to = *from;
}
