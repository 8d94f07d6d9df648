using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Which reads a launch of <see cref="TranscodeKernels.Materialize"/> takes, and what it writes. Passed by value.</summary>
/// <param name="pageClass">The class of the pages meant.</param>
/// <param name="type">Element type of the output: a <see cref="TensorType"/>.</param>
internal readonly struct ReadDims(int pageClass, int type)
{
    public readonly int PageClass = pageClass;
    public readonly int Type = type;
}

/// <summary>Pages written from pages, one part (keys or values) a launch, and pages read back.</summary>
internal static class TranscodeKernels
{
    /// <summary>
    /// Words that describe one move: source slot, target slot, tokens, class pair, mark of a kept page, unit of its scores, word in the unit, vector of its signs.
    /// </summary>
    public const int MoveWords = 8;

    /// <summary>Of those the vector of <see cref="DeviceSigns.View"/> that its keys in T formats were rotated with.</summary>
    public const int Signs = 7;

    /// <summary>Of those the unit in which the page's scores begin, since a word beyond 2^31 is no int; 0 where none are written. The word in the unit follows.</summary>
    public const int ScoreUnit = 5;

    /// <summary>Of those the mark that the page is kept: a thread that finds that the target cannot hold the page sets it.</summary>
    public const int Kept = 4;

    /// <summary>Words that describe one read: slot, tokens, class, first vector of the target, vectors from one token to the next, vector of its signs.</summary>
    public const int ReadWords = 6;

    /// <summary>A move's class pair, in one number.</summary>
    public static int Pair(int source, int target) => (source * KernelShape.MaxClasses) + target;

    /// <summary>
    /// Decodes, changes basis where the formats differ in it, and encodes: values, and keys that need nothing of their page's other
    /// tokens. One group per (move, two tokens), because the scales of two tokens share a word. Shared: <see cref="TokenScratch"/>.
    /// </summary>
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
        var s = new TokenScratch(SharedMemory.GetDynamic<float>(), from.Width, to.Planes);
        s.Fill<TSource, TTarget>();
        Group.Barrier();
        int end = first + 2 < tokens ? first + 2 : tokens;
        for (int t = first; t < end; t++)
        {
            TokenCodec.Load<TSource>(source, from, t, s.X, s.SourceLevels);
            TokenCodec.ChangeBasis<TSource, TTarget>(s.X, from.Width, signs, moves[move + Signs], norm);
            bool isKept = TokenCodec.IsRefused<TSource, TTarget>(s.X, from.Width);
            isKept |= !TokenCodec.Store<TTarget>(target, to, t, s);
            if (isKept)
            {
                Keep(moves, move);
            }
        }

        TokenCodec.StoreScales(target, to, first, s.Scales);
    }

    /// <summary>
    /// Copies a part word by word, with its scales: equal formats keep their bits. One group per move.
    /// </summary>
    /// <param name="arena">Arena.</param>
    /// <param name="moves">Moves.</param>
    /// <param name="pair">Class pair of the moves meant.</param>
    /// <param name="digestWords">Words of the keys' digest that are copied too.</param>
    /// <param name="lowExponent">The exponent bits of a word's first element: all are set in NaN and infinities. 0 where all elements are finite.</param>
    /// <param name="highExponent">The same of its last element.</param>
    /// <param name="from">Source.</param>
    /// <param name="to">Target; may lie in the same slot.</param>
    public static void Copy(
        ArrayView<int> arena, ArrayView<int> moves, int pair, int digestWords, int lowExponent, int highExponent, PartDims from, PartDims to)
    {
        int move = Grid.IdxX * MoveWords;
        if (moves[move + 3] != pair)
        {
            return;
        }

        ArrayView<int> source = AppendKernel.Page(arena, moves[move]);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        bool isKept = false;
        for (int i = Group.IdxX; i < from.Words * from.PageTokens; i += Group.DimX)
        {
            int word = source[from.First + i];
            target[to.First + i] = word;
            int t = from.TokenStride == 1 ? i % from.PageTokens : i / from.Words;
            bool isFinite = (word & lowExponent) != lowExponent && (word & highExponent) != highExponent;
            isKept |= lowExponent != 0 && t < moves[move + 2] && !isFinite;
        }

        for (int i = Group.IdxX; i < from.Planes * from.PlaneWords; i += Group.DimX)
        {
            target[to.Scales + i] = source[from.Scales + i];
        }

        for (int i = Group.IdxX; i < digestWords; i += Group.DimX)
        {
            target[to.Mean + i] = source[from.Mean + i];
        }

        if (isKept)
        {
            Keep(moves, move);
        }
    }

    /// <summary>Marks a move's page as kept. Several threads may: atomically, so that their stores do not race.</summary>
    public static void Keep(ArrayView<int> moves, int move) => Atomic.Or(ref moves[move + Kept], 1);

    /// <summary>Pages -> out[reads][P][width] in the plain basis. One group per (read, token). Shared: x[width], levels[16].</summary>
    public static void Materialize<TCodec>(
        ArrayView<int> arena,
        ArrayView<int> reads,
        ReadDims call,
        PartDims part,
        ArrayView<float> signs,
        float norm,
        ArrayView<ushort> output)
        where TCodec : struct, IPortableCodec
    {
        int read = Grid.IdxX / part.PageTokens;
        int t = Grid.IdxX - (read * part.PageTokens);
        if (reads[(read * ReadWords) + 2] != call.PageClass || t >= reads[(read * ReadWords) + 1])
        {
            return;
        }

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> x = shared.SubView(0, part.Width);
        ArrayView<float> levels = shared.SubView(part.Width, LevelTable.Size);
        if (default(TCodec).LevelBits > 0)
        {
            LevelTable.Fill(levels, default(TCodec).LevelBits);
            Group.Barrier();
        }

        TokenCodec.Load<TCodec>(AppendKernel.Page(arena, reads[read * ReadWords]), part, t, x, levels);
        if (default(TCodec).IsRotated)
        {
            int vector = default(TCodec).Scales == Scaling.Gain ? reads[(read * ReadWords) + 5] : 0;
            SharedVector.Undo(x, part.Width, signs, vector * part.Width, norm);
        }

        long at = (reads[(read * ReadWords) + 3] + ((long)t * reads[(read * ReadWords) + 4])) * part.Width;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            TypedElements.Store(output, at + i, call.Type, x[i]);
        }
    }
}
