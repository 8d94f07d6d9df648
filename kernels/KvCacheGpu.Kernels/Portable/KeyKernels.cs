using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Keys of sealed pages with their digest, which depends on all tokens of a page. One group per move.</summary>
internal static class KeyKernels
{
    /// <summary>Shared floats that a group of <paramref name="threads"/> needs: <see cref="TokenScratch"/>, mean[width], deviation[width].</summary>
    public static int SharedFloats(int width, int planes, int threads) => (2 * width) + TokenScratch.Floats(width, planes, threads);

    /// <summary>Keys of one format -> keys of another, and their digest.</summary>
    public static void Encode<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<int> moves, int pair, PartDims from, PartDims to, ArrayView<float> signs, float norm)
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec =>
        Walk<TSource, TTarget>(arena, moves, pair, from, to, signs, norm, true);

    /// <summary>The digest of keys that keep their format: their codes are the target's already, or copied.</summary>
    public static void Digest<TCodec>(
        ArrayView<int> arena, ArrayView<int> moves, int pair, PartDims from, PartDims to, ArrayView<float> signs, float norm)
        where TCodec : struct, IPortableCodec =>
        Walk<TCodec, TCodec>(arena, moves, pair, from, to, signs, norm, false);

    // Tokens twice: for the mean, then against it. Sums over tokens run in their order, one thread for each element.
    private static void Walk<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<int> moves, int pair, PartDims from, PartDims to, ArrayView<float> signs, float norm, bool stores)
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec
    {
        int move = Grid.IdxX * TranscodeKernels.MoveWords;
        int tokens = moves[move + 2];
        if (moves[move + 3] != pair)
        {
            return;
        }

        ArrayView<int> source = AppendKernel.Page(arena, moves[move]);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> mean = shared.SubView(0, from.Width);
        ArrayView<float> deviation = shared.SubView(from.Width, from.Width);
        var s = new TokenScratch(shared.SubView(2 * from.Width, TokenScratch.Floats(from.Width, to.Planes, Group.DimX)), from.Width, to.Planes);
        s.Fill<TSource, TTarget>();
        for (int i = Group.IdxX; i < from.Width; i += Group.DimX)
        {
            mean[i] = 0f;
            deviation[i] = 0f;
        }

        Group.Barrier();
        bool isKept = false;
        for (int t = 0; t < tokens; t++)
        {
            TokenCodec.Load<TSource>(source, from, t, s.X, s.SourceLevels);
            TokenCodec.ChangeBasis<TSource, TTarget>(s.X, from.Width, signs, moves[move + TranscodeKernels.Signs], norm);
            isKept |= TokenCodec.IsRefused<TSource, TTarget>(s.X, from.Width);
            if (default(TTarget).Scales == Scaling.Gain)
            {
                isKept |= TokenCodec.Normalize(s, from.Width) >= 0x7C00;
            }

            for (int i = Group.IdxX; i < from.Width; i += Group.DimX)
            {
                mean[i] = mean[i] + s.X[i];
            }
        }

        for (int i = Group.IdxX; i < from.Width; i += Group.DimX)
        {
            mean[i] = PortableMath.Single(PortableMath.SaturatedHalf(mean[i] / tokens));
        }

        for (int t = 0; t < tokens; t++)
        {
            TokenCodec.Load<TSource>(source, from, t, s.X, s.SourceLevels);
            TokenCodec.ChangeBasis<TSource, TTarget>(s.X, from.Width, signs, moves[move + TranscodeKernels.Signs], norm);
            uint rms = default(TTarget).Scales == Scaling.Gain ? TokenCodec.Normalize(s, from.Width) : 0;
            for (int i = Group.IdxX; i < from.Width; i += Group.DimX)
            {
                float off = s.X[i] - mean[i];
                deviation[i] = deviation[i] + PortableMath.Apart(off * off);
                if (default(TTarget).Scales == Scaling.Gain)
                {
                    s.X[i] = off;
                }
            }

            if (stores)
            {
                if (default(TTarget).Scales == Scaling.Gain)
                {
                    TokenCodec.StoreLevels<TTarget>(target, to, t, rms, s);
                }
                else
                {
                    isKept |= !TokenCodec.Store<TTarget>(target, to, t, s);
                }

                if ((t & 1) == 1 || t == tokens - 1)
                {
                    TokenCodec.StoreScales(target, to, t, s.Scales);
                }
            }
        }

        for (int i = Group.IdxX; i < from.Width; i += Group.DimX)
        {
            deviation[i] = MathF.Sqrt(deviation[i] / tokens);
        }

        Group.Barrier();
        for (int w = Group.IdxX; w < to.MeanWords; w += Group.DimX)
        {
            target[to.Mean + w] = Halves(mean, w, from.Width);
            target[to.Mean + to.MeanWords + w] = Halves(deviation, w, from.Width);
        }

        if (isKept)
        {
            TranscodeKernels.Keep(moves, move);
        }
    }

    private static int Halves(ArrayView<float> vector, int word, int width)
    {
        uint low = PortableMath.SaturatedHalf(vector[2 * word]);
        uint high = (2 * word) + 1 < width ? PortableMath.SaturatedHalf(vector[(2 * word) + 1]) : 0;
        return (int)(low | (high << 16));
    }
}
