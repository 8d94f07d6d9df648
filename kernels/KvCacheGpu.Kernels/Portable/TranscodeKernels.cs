using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Pages written from pages, one part (keys or values) a launch. One group per (move, two tokens).</summary>
internal static class TranscodeKernels
{
    /// <summary>Words that describe one move: source slot, target slot, tokens, and the class pair source * 256 + target.</summary>
    public const int MoveWords = 4;

    /// <summary>Words that describe one read: slot, tokens, class.</summary>
    public const int ReadWords = 3;

    /// <summary>
    /// Decodes, changes basis where the formats differ in it, and encodes. A group takes two tokens because their scales share a word.
    /// </summary>
    /// <remarks>I8 (reference/quantization.md): s = max(2^-24, amax/127 rounded up to binary16), code = rint(y / s). Shared: x[width], red[DimX].</remarks>
    public static void Transcode<TSource, TTarget>(
        ArrayView<int> arena,
        ArrayView<int> moves,
        int pair,
        PartDims from,
        PartDims to,
        ArrayView<float> signs,
        float norm)
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec
    {
        int halves = (from.PageTokens + 1) / 2;
        int move = Grid.IdxX / halves * MoveWords;
        int first = Grid.IdxX % halves * 2;
        int tokens = moves[move + 2];
        if (moves[move + 3] != pair || first >= tokens)
        {
            return;
        }

        ArrayView<int> source = AppendKernel.Page(arena, moves[move]);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> x = shared.SubView(0, from.Width);
        ArrayView<float> red = shared.SubView(from.Width, Group.DimX);
        uint scales = 0;
        for (int k = 0; k < 2; k++)
        {
            int t = first + k;
            if (t < tokens)
            {
                Load<TSource>(source, from, t, x);
                if (default(TSource).IsScaled && !default(TTarget).IsScaled)
                {
                    SharedVector.Undo(x, from.Width, signs, norm);
                }

                if (default(TTarget).IsScaled && !default(TSource).IsScaled)
                {
                    SharedVector.Rotate(x, from.Width, signs, norm);
                }

                float scale = 1f;
                if (default(TTarget).IsScaled)
                {
                    uint bits = Bits16.HalfRoundUpFromSingleBits(Interop.FloatAsInt(AbsoluteMax(x, from.Width, red) / 127f));
                    scales |= bits << (16 * k);
                    scale = Interop.IntAsFloat(Bits16.SingleBitsFromHalf(bits));
                }

                Store<TTarget>(target, to, t, x, scale);
                Group.Barrier();
            }
        }

        if (default(TTarget).IsScaled && Group.IdxX == 0)
        {
            target[to.Scales + (first / 2)] = (int)scales;
        }
    }

    /// <summary>Copies a part word by word: equal formats keep their bits. One group per move.</summary>
    public static void Copy(ArrayView<int> arena, ArrayView<int> moves, int pair, PartDims from, PartDims to, int scaleWords)
    {
        int move = Grid.IdxX * MoveWords;
        if (moves[move + 3] != pair)
        {
            return;
        }

        ArrayView<int> source = AppendKernel.Page(arena, moves[move]);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        for (int i = Group.IdxX; i < from.Words * from.PageTokens; i += Group.DimX)
        {
            target[to.First + i] = source[from.First + i];
        }

        for (int i = Group.IdxX; i < scaleWords; i += Group.DimX)
        {
            target[to.Scales + i] = source[from.Scales + i];
        }
    }

    /// <summary>Pages -> out[reads][P][width] in the plain basis. One group per (read, token). Shared: x[width].</summary>
    public static void Materialize<TCodec>(
        ArrayView<int> arena,
        ArrayView<int> reads,
        int classMask,
        PartDims part,
        ArrayView<float> signs,
        float norm,
        ArrayView<float> output)
        where TCodec : struct, IPortableCodec
    {
        int read = Grid.IdxX / part.PageTokens;
        int t = Grid.IdxX - (read * part.PageTokens);
        if (((classMask >> reads[(read * ReadWords) + 2]) & 1) == 0 || t >= reads[(read * ReadWords) + 1])
        {
            return;
        }

        ArrayView<float> x = SharedMemory.GetDynamic<float>().SubView(0, part.Width);
        Load<TCodec>(AppendKernel.Page(arena, reads[read * ReadWords]), part, t, x);
        if (default(TCodec).IsScaled)
        {
            SharedVector.Undo(x, part.Width, signs, norm);
        }

        long at = (long)Grid.IdxX * part.Width;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            output[at + i] = x[i];
        }
    }

    /// <summary>A vector's scale out of its page.</summary>
    public static float Scale(ArrayView<int> page, int scales, int t) =>
        Interop.IntAsFloat(Bits16.SingleBitsFromHalf(((uint)page[scales + (t >> 1)] >> (16 * (t & 1))) & 0xFFFF));

    private static void Load<TCodec>(ArrayView<int> page, PartDims part, int t, ArrayView<float> x)
        where TCodec : struct, IPortableCodec
    {
        float scale = default(TCodec).IsScaled ? Scale(page, part.Scales, t) : 1f;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            int w = i / default(TCodec).PerWord;
            float element = default(TCodec).Decode(page[part.At(t, w)], i - (w * default(TCodec).PerWord));
            x[i] = default(TCodec).IsScaled ? element * scale : element;
        }

        Group.Barrier();
    }

    private static void Store<TCodec>(ArrayView<int> page, PartDims part, int t, ArrayView<float> x, float scale)
        where TCodec : struct, IPortableCodec
    {
        for (int w = Group.IdxX; w < part.Words; w += Group.DimX)
        {
            uint word = 0;
            for (int j = 0; j < default(TCodec).PerWord; j++)
            {
                float element = x[(w * default(TCodec).PerWord) + j];
                if (!default(TCodec).IsScaled && (Interop.FloatAsInt(element) & 0x7FFFFFFF) > default(TCodec).Largest)
                {
                    // A rounding error beyond what the format holds: append refused anything larger.
                    element = Interop.IntAsFloat((Interop.FloatAsInt(element) & 0x80000000) | default(TCodec).Largest);
                }

                uint bits = default(TCodec).Encode(element, scale);
                word |= bits << (32 / default(TCodec).PerWord * j);
            }

            page[part.At(t, w)] = (int)word;
        }
    }

    private static float AbsoluteMax(ArrayView<float> x, int width, ArrayView<float> red)
    {
        float largest = 0f;
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            float magnitude = x[i] < 0f ? -x[i] : x[i];
            largest = magnitude > largest ? magnitude : largest;
        }

        red[Group.IdxX] = largest;
        SharedVector.Largest(red, 1);
        return red[0];
    }
}
