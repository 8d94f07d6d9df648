using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Encodes one part of a page to I8. The part lies as f32[width][stride], so that lanes are tokens and the rotation is plain
/// vector arithmetic; the order of operations is <see cref="Rotation"/>'s, so that codes are the same on every tier.
/// </summary>
internal static unsafe class PageEncode<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Rotates, and leaves the codes packed four to a word in words[width / 4][stride], and the scales.</summary>
    /// <param name="x">The part, f32[width][stride]; overwritten.</param>
    /// <param name="width">Elements of a vector.</param>
    /// <param name="stride">Tokens, rounded up to the lanes.</param>
    /// <param name="signs">The rotation's signs, f32[width].</param>
    /// <param name="words">Out: packed codes.</param>
    /// <param name="scales">Out: scales as binary16 bits, one a token.</param>
    /// <param name="tokens">Tokens whose scales are wanted.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToI8(float* x, int width, int stride, float* signs, int* words, ushort* scales, int tokens)
    {
        Rotate(x, width, stride, signs);
        float* exact = stackalloc float[S.Lanes];
        for (int t = 0; t < stride; t += S.Lanes)
        {
            F largest = S.All(0f);
            for (int i = 0; i < width; i++)
            {
                largest = S.Max(largest, S.Abs(S.Load(x + (i * stride) + t)));
            }

            S.Store(exact, S.Divide(largest, S.All(127f)));
            for (int lane = 0; lane < S.Lanes; lane++)
            {
                uint half = Bits16.HalfRoundUpFromSingleBits(BitConverter.SingleToUInt32Bits(exact[lane]));
                exact[lane] = BitConverter.UInt32BitsToSingle(Bits16.SingleBitsFromHalf(half));
                if (t + lane < tokens)
                {
                    scales[t + lane] = (ushort)half;
                }
            }

            F scale = S.Load(exact);
            for (int w = 0; w < width / 4; w++)
            {
                float* v = x + (4 * w * stride) + t;
                I word = S.And(Code(v, scale), S.AllInt(0xFF));
                word = S.Or(word, S.ShiftLeft(S.And(Code(v + stride, scale), S.AllInt(0xFF)), 8));
                word = S.Or(word, S.ShiftLeft(S.And(Code(v + (2 * stride), scale), S.AllInt(0xFF)), 16));
                word = S.Or(word, S.ShiftLeft(Code(v + (3 * stride), scale), 24));
                S.StoreInt(words + (w * stride) + t, word);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static I Code(float* v, F scale)
    {
        F quotient = S.Divide(S.Load(v), scale);
        return S.Round(S.Max(S.All(-127f), S.Min(S.All(127f), quotient)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rotate(float* x, int width, int stride, float* signs)
    {
        for (int i = 0; i < width; i++)
        {
            F sign = S.All(signs[i]);
            for (float* v = x + (i * stride), end = v + stride; v < end; v += S.Lanes)
            {
                S.Store(v, S.Multiply(S.Load(v), sign));
            }
        }

        int block = Rotation.BlockSize(width);
        for (int half = 1; half < block; half *= 2)
        {
            for (int i = 0; i < width; i++)
            {
                if ((i & half) != 0)
                {
                    continue;
                }

                float* a = x + (i * stride);
                float* b = a + (half * stride);
                for (int t = 0; t < stride; t += S.Lanes)
                {
                    F u = S.Load(a + t), v = S.Load(b + t);
                    S.Store(a + t, S.Add(u, v));
                    S.Store(b + t, S.Subtract(u, v));
                }
            }
        }

        F norm = S.All(Rotation.Norm(width));
        for (int n = 0; n < width * stride; n += S.Lanes)
        {
            S.Store(x + n, S.Multiply(S.Load(x + n), norm));
        }
    }
}
