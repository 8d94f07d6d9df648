using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Reads one part of a full-precision page into f32[width][stride], lanes being tokens: what encoding works on.</summary>
internal static unsafe class SpreadPart<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Keys, whose words already lie by tokens. Lanes beyond the page's tokens mean nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Keys<TCodec>(int* keys, int pageTokens, int words, float* part, int stride)
        where TCodec : struct, ISimdCodec
    {
        F factor = S.All(TCodec.Factor);
        for (int w = 0; w < words; w++, keys += pageTokens)
        {
            for (int t = 0; t < pageTokens; t += S.Lanes)
            {
                I word = S.LoadInt(keys + t);
                S.Store(part + t, S.Multiply(TCodec.Element<S, F, I>(word, 0), factor));
                if (TCodec.PerWord == 2)
                {
                    S.Store(part + stride + t, S.Multiply(TCodec.Element<S, F, I>(word, 1), factor));
                }
            }

            part += TCodec.PerWord * stride;
        }
    }

    /// <summary>Values, row by row through <paramref name="row"/>, which has room for the width rounded up to the lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Values<TCodec>(int* values, int tokens, int width, float* part, int stride, float* row)
        where TCodec : struct, ISimdCodec
    {
        F factor = S.All(TCodec.Factor);
        for (int t = 0; t < tokens; t++, values += width / TCodec.PerWord)
        {
            for (int i = 0; i < width; i += S.Lanes)
            {
                S.Store(row + i, S.Multiply(TCodec.Elements<S, F, I>(values, i), factor));
            }

            float* column = part + t;
            for (int i = 0; i < width; i++, column += stride)
            {
                *column = row[i];
            }
        }
    }
}
