using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="TranscodeKernels.Transcode"/> and <see cref="KeyKernels"/> for CUDA: 128-bit accesses, vectors in registers, rotations and sums by shuffles. Codes, scales
/// and digests are the same bits. A lane has sixteen elements (<see cref="Sixteen"/>) of four neighbouring tokens, a quad, one after the other.
/// </summary>
internal static class MoveKernels
{
    /// <summary>Values. A group takes <c>Group.DimX / lanes</c> quads of one move; shared: <see cref="PageSquare.SharedFloats"/>.</summary>
    public static void Values<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<Words4> arena128, ArrayView<int> moves, ArrayView<Four> signs, MoveDims dims)
        where TSource : struct, IMoveSource
        where TTarget : struct, IMoveTarget
    {
        int quadsAtOnce = Group.DimX / dims.Lanes;
        int groups = ((dims.From.PageTokens >> 2) + quadsAtOnce - 1) / quadsAtOnce;
        int move = Grid.IdxX / groups * TranscodeKernels.MoveWords;
        int first = Grid.IdxX % groups * quadsAtOnce;
        if (moves[move + 3] != dims.Pair || 4 * first >= moves[move + 2])
        {
            return;
        }

        int lane = Group.IdxX & (dims.Lanes - 1);
        var quad = new Quad(moves[move + 2], first + (Group.IdxX / dims.Lanes), lane, dims);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        ArrayView<Words4> source128 = Page(arena128, moves[move]);
        int at = (dims.From.First + (4 * quad.Source * dims.From.Words)) >> 2;
        at += quad.Lane * default(TSource).Words >> 2;
        int next = dims.From.Words >> 2;
        QuadWords raw = QuadWords.OfRows(
            LoadValue<TSource>(source128, at), LoadValue<TSource>(source128, at + next), LoadValue<TSource>(source128, at + (2 * next)), LoadValue<TSource>(source128, at + (3 * next)));
        var basis = new MoveBasis<TSource, TTarget>(signs, 0, quad.Lane, dims.From.Width);
        QuadScales scales = LoadScales<TSource>(AppendKernel.Page(arena, moves[move]), dims.From, quad);
        ArrayView<Words4> target128 = Page(arena128, moves[move + 1]);
        QuadCodes codes = default;
        int isKept = 0;
        float square = 0f;
        for (int k = 0; k < dims.QuadTokens; k++)
        {
            Sixteen x = default(TSource).Decode(LaneWords.Masked(raw.First, quad.Mask(k)), scales.Of(k, quad.Mask(k)));
            square = PageSquare.Add(square, x);
            raw = QuadWords.Next(raw);
            x = basis.Change(x, lane, dims);
            LaneCodes token = Encode<TTarget>(x, lane, dims);
            isKept |= token.IsKept | Sixteen.IsNotFinite(x);
            QuadStores.Value<TTarget>(target, target128, dims.To, quad, k, token.Words);
            codes = QuadCodes.Push(codes, token);
        }

        if (isKept != 0)
        {
            TranscodeKernels.Keep(moves, move);
        }

        QuadStores.Scales<TTarget>(target, dims.To, quad, codes);
        if (dims.Square >= 0)
        {
            ArrayView<float> ofWarps = SharedMemory.GetDynamic<float>();
            PageSquare.Share(ofWarps, square);
            Group.Barrier();
            PageSquare.Write(arena, moves, move, ofWarps, dims.Square);
        }
    }

    /// <summary>Keys with their page's digest, or of <see cref="NoTarget"/> the digest alone. A group for each move; shared: <see cref="MoveDims.SharedFloats"/>.</summary>
    public static void Keys<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<Words4> arena128, ArrayView<int> moves, ArrayView<Four> signs, MoveDims dims)
        where TSource : struct, IMoveSource
        where TTarget : struct, IMoveTarget
    {
        int move = Grid.IdxX * TranscodeKernels.MoveWords;
        int tokens = moves[move + 2];
        if (moves[move + 3] != dims.Pair)
        {
            return;
        }

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> mean = shared.SubView(dims.From.PageTokens * dims.Stride, 16 * dims.Lanes);
        ArrayView<float> deviation = shared.SubView((dims.From.PageTokens * dims.Stride) + (16 * dims.Lanes), 16 * dims.Lanes);
        ArrayView<int> rms = shared.SubView((dims.From.PageTokens * dims.Stride) + (32 * dims.Lanes), dims.From.PageTokens).Cast<int>();
        ArrayView<int> source = AppendKernel.Page(arena, moves[move]);
        ArrayView<int> target = AppendKernel.Page(arena, moves[move + 1]);
        ArrayView<Words4> source128 = Page(arena128, moves[move]);
        ArrayView<Words4> target128 = Page(arena128, moves[move + 1]);
        int lane = Group.IdxX & (dims.Lanes - 1);
        int quadsAtOnce = Group.DimX / dims.Lanes;
        int vector = default(TTarget).Scales == Scaling.Gain ? moves[move + TranscodeKernels.Signs] : 0;
        ArrayView<float> ofWarps = shared.SubView(dims.SharedFloats - PageSquare.SharedFloats, PageSquare.SharedFloats);
        int isKept = 0;
        float squares = 0f;
        for (int first = 0; 4 * first < tokens; first += quadsAtOnce)
        {
            var quad = new Quad(tokens, first + (Group.IdxX / dims.Lanes), lane, dims);
            QuadWords raw = LoadKeys<TSource>(source128, dims.From, quad);
            QuadScales scales = LoadScales<TSource>(source, dims.From, quad);
            var basis = new MoveBasis<TSource, TTarget>(signs, vector, quad.Lane, dims.From.Width);
            QuadCodes codes = default;
            for (int k = 0; k < dims.QuadTokens; k++)
            {
                Sixteen x = default(TSource).Decode(LaneWords.Masked(raw.First, quad.Mask(k)), scales.Of(k, quad.Mask(k)));
                squares = PageSquare.Add(squares, x);
                raw = QuadWords.Next(raw);
                x = basis.Change(x, lane, dims);
                LaneCodes token = Key<TTarget>(x, quad, k, shared, dims);
                isKept |= token.IsKept;
                codes = QuadCodes.Push(codes, token);
            }

            if (default(TTarget).Scales == Scaling.Gain)
            {
                StoreRms(rms, quad, codes);
            }
            else if (default(TTarget).Words > 0)
            {
                QuadStores.Keys<TTarget>(target, target128, dims.To, quad, codes);
                QuadStores.Scales<TTarget>(target, dims.To, quad, codes);
            }
        }

        if (isKept != 0)
        {
            TranscodeKernels.Keep(moves, move);
        }

        PageSquare.Share(ofWarps, squares);
        Group.Barrier();
        PageSquare.Write(arena, moves, move, ofWarps, dims.Square);
        for (int i = Group.IdxX; i < 16 * dims.Lanes; i += Group.DimX)
        {
            float sum = 0f;
            for (int t = 0; t < tokens; t++)
            {
                sum += shared[(t * dims.Stride) + i];
            }

            float center = PortableMath.Single(PortableMath.SaturatedHalf(sum / tokens));
            float square = 0f;
            for (int t = 0; t < tokens; t++)
            {
                float off = shared[(t * dims.Stride) + i] - center;
                square += PortableMath.Apart(MoveAsm.Mul(off, off));
            }

            mean[i] = center;
            deviation[i] = MathF.Sqrt(square / tokens);
        }

        Group.Barrier();
        for (int w = Group.IdxX; w < dims.To.MeanWords; w += Group.DimX)
        {
            target[dims.To.Mean + w] = StagedVectors.Halves(mean, w, dims.Lanes);
            target[dims.To.Mean + dims.To.MeanWords + w] = StagedVectors.Halves(deviation, w, dims.Lanes);
        }

        for (int first = 0; default(TTarget).Scales == Scaling.Gain && 4 * first < tokens; first += quadsAtOnce)
        {
            var quad = new Quad(tokens, first + (Group.IdxX / dims.Lanes), lane, dims);
            Sixteen center = StagedVectors.Load(mean, 0, lane, dims.Lanes);
            QuadCodes codes = default;
            for (int k = 0; k < dims.QuadTokens; k++)
            {
                codes = QuadCodes.Push(codes, Level<TTarget>(shared, center, rms, quad, k, dims));
            }

            QuadStores.Keys<TTarget>(target, target128, dims.To, quad, codes);
            QuadStores.Scales<TTarget>(target, dims.To, quad, codes);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ArrayView<Words4> Page(ArrayView<Words4> arena, int slot)
    {
        long first = (long)slot * (PageLayout.UnitWords / 4);
        return arena.SubView(first, arena.Length - first);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneWords LoadValue<TSource>(ArrayView<Words4> page, int at)
        where TSource : struct, IMoveSource => LaneWords.Of(page[at], default(TSource).Words == 8 ? page[at + 1] : default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static QuadWords LoadKeys<TSource>(ArrayView<Words4> page, PartDims part, Quad quad)
        where TSource : struct, IMoveSource
    {
        int next = part.PageTokens >> 2;
        int at = (part.First >> 2) + (quad.Lane * default(TSource).Words * next) + quad.Source;
        var low = LaneBlock.Of(page[at], page[at + next], page[at + (2 * next)], page[at + (3 * next)]);
        LaneBlock high = default;
        if (default(TSource).Words == 8)
        {
            high = LaneBlock.Of(page[at + (4 * next)], page[at + (5 * next)], page[at + (6 * next)], page[at + (7 * next)]);
        }

        return QuadWords.OfColumns(low, high);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static QuadScales LoadScales<TSource>(ArrayView<int> page, PartDims part, Quad quad)
        where TSource : struct, IMoveSource
    {
        int at = part.Scales + (2 * quad.Source);
        return default(TSource).IsRotated ? new QuadScales(page[at], page[at + 1]) : default;
    }

    // A key -> shared memory, and its codes if they need nothing of the page's other tokens.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneCodes Key<TTarget>(Sixteen x, Quad quad, int k, ArrayView<float> shared, MoveDims dims)
        where TTarget : struct, IMoveTarget
    {
        LaneCodes codes = default;
        int isKept = Sixteen.IsNotFinite(x);
        if (default(TTarget).Scales == Scaling.Gain)
        {
            uint bits = PortableMath.Half(MathF.Sqrt(Sixteen.SquareSum(x, quad.Own, dims.Lanes) / dims.From.Width));
            x = Sixteen.Scaled(x, TokenCodec.Inverse(bits));
            codes.First = bits;
            isKept |= bits >= 0x7C00 ? 1 : 0;
        }
        else if (default(TTarget).Words > 0)
        {
            codes = Encode<TTarget>(x, quad.Own, dims);
        }

        codes.IsKept |= isKept;
        int token = (4 * quad.Source) + k;
        if (quad.IsTaken(k))
        {
            StagedVectors.Store(shared, token * dims.Stride, quad.Own, dims.Lanes, x);
        }

        return codes;
    }

    // As TokenCodec.Store.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneCodes Encode<TTarget>(Sixteen x, int lane, MoveDims dims)
        where TTarget : struct, IMoveTarget
    {
        LaneCodes codes = default;
        float offset = 0f;
        float inverse = 1f;
        if (default(TTarget).Scales == Scaling.Vector && default(TTarget).LevelBits > 0)
        {
            codes.First = PortableMath.Half(MathF.Sqrt(Sixteen.SquareSum(x, lane, dims.Lanes) / dims.From.Width));
            inverse = TokenCodec.Inverse(codes.First, LevelTable.Unit(default(TTarget).LevelBits));
        }
        else if (default(TTarget).Scales == Scaling.Vector)
        {
            codes.First = Bits16.HalfRoundUpFromSingleBits(Interop.FloatAsInt(Sixteen.AbsoluteMax(x, dims.Lanes) / 127f));
            inverse = TokenCodec.Inverse(codes.First);
        }
        else if (default(TTarget).Scales == Scaling.Group)
        {
            int lanes = dims.To.ScaleGroup >> 4;
            codes.Second = Bits16.HalfFloorFromSingleBits(Interop.FloatAsInt(Sixteen.Minimum(x, lanes) + 0f));
            offset = PortableMath.Single(codes.Second);
            codes.First = Bits16.HalfRoundUpFromSingleBits(Interop.FloatAsInt((Sixteen.Maximum(x, lanes) - offset) / 15f));
            inverse = TokenCodec.Inverse(codes.First);
        }

        codes.IsKept = codes.First >= 0x7C00 || (codes.Second & 0x7FFF) >= 0x7C00 ? 1 : 0;
        codes.Words = default(TTarget).Pack(default(TTarget).Encode(x, offset, inverse));
        return codes;
    }

    // As TokenCodec.StoreLevels.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneCodes Level<TTarget>(ArrayView<float> shared, Sixteen mean, ArrayView<int> rms, Quad quad, int k, MoveDims dims)
        where TTarget : struct, IMoveTarget
    {
        int token = (4 * quad.Source) + k;
        token = quad.IsTaken(k) ? token : 0;
        Sixteen e = Sixteen.Difference(StagedVectors.Load(shared, token * dims.Stride, quad.Own, dims.Lanes), mean);
        float square = Sixteen.SquareSum(e, quad.Own, dims.Lanes);
        float length = MathF.Sqrt(square);
        float inverse = square > 0f ? MoveAsm.Mul(MathF.Sqrt(dims.From.Width), LevelTable.Unit(default(TTarget).LevelBits)) / length : 0f;
        LaneCodes codes = default;
        Words4 levelCodes = default(TTarget).Encode(e, 0f, inverse);
        codes.Words = default(TTarget).Pack(levelCodes);
        int squares = quad.IsActive ? default(TTarget).Squares(levelCodes) : 0;
        for (int mask = 1; mask < dims.Lanes; mask <<= 1)
        {
            squares += Warp.ShuffleXor(squares, mask);
        }

        // Exact in binary32 up to 256 elements: a quarter for each, beside whole numbers below 2^22.
        float levels = MoveAsm.Add(squares, MoveAsm.Mul(dims.From.Width, 0.25f));
        codes.First = (uint)rms[token];
        codes.Second = square > 0f ? PortableMath.Half(length / MathF.Sqrt(levels)) : 0;
        return codes;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRms(ArrayView<int> rms, Quad quad, QuadCodes codes)
    {
        if (quad.Own == 0 && quad.Count > 0)
        {
            int at = 4 * quad.Source;
            rms[at] = codes.First.X;
            rms[at + 1] = codes.First.Y;
            rms[at + 2] = codes.First.Z;
            rms[at + 3] = codes.First.W;
        }
    }
}
