using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>One part of a launch's moves. Passed by value.</summary>
/// <param name="pair">Class pair of the moves meant.</param>
/// <param name="lanes">Lanes that share a vector: a power of two, sixteen elements each.</param>
/// <param name="from">Source.</param>
/// <param name="to">Target.</param>
/// <param name="norm"><see cref="Rotation.Norm"/>.</param>
internal readonly struct MoveDims(int pair, int lanes, PartDims from, PartDims to, float norm)
{
    public readonly int Pair = pair;
    public readonly int Lanes = lanes;
    public readonly PartDims From = from;
    public readonly PartDims To = to;
    public readonly float Norm = norm;

    /// <summary>Elements of a vector in shared memory: a place for each of its lanes' sixteen, and as many more that the vectors of a warp lie in different banks.</summary>
    public int Stride => (16 * Lanes) + (Lanes >> 2);

    /// <summary>Shared floats of <see cref="MoveKernels.Keys"/>: the page's vectors, mean and deviation, and the rms of each token.</summary>
    public int SharedFloats => (From.PageTokens * Stride) + (32 * Lanes) + From.PageTokens;
}

/// <summary>The codes and scales of a token, as far as they are one lane's.</summary>
internal struct LaneCodes
{
    public Words4 Words;
    public uint First;
    public uint Second;

    /// <summary>0 if the format holds the vector.</summary>
    public int IsKept;
}

/// <summary>
/// <see cref="TranscodeKernels.Transcode"/> and <see cref="KeyKernels"/> for CUDA: 128-bit accesses, vectors in registers, rotations and sums by shuffles. Codes, scales
/// and digests are the same bits. A lane has sixteen elements (<see cref="Sixteen"/>) of four neighbouring tokens, a quad, one after the other.
/// </summary>
internal static class MoveKernels
{
    /// <summary>Values. A group takes <c>Group.DimX / lanes</c> quads of one move; no shared memory.</summary>
    public static void Values<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<Words4> arena4, ArrayView<int> moves, ArrayView<Four> signs, MoveDims dims)
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
        ArrayView<Words4> source4 = Page(arena4, moves[move]);
        int at = (dims.From.First + (4 * quad.Source * dims.From.Words)) >> 2;
        at += quad.Lane * default(TSource).Words >> 2;
        int next = dims.From.Words >> 2;
        LaneWords a = LoadValue<TSource>(source4, at, quad.Mask(0));
        LaneWords b = LoadValue<TSource>(source4, at + next, quad.Mask(1));
        LaneWords c = LoadValue<TSource>(source4, at + (2 * next), quad.Mask(2));
        LaneWords d = LoadValue<TSource>(source4, at + (3 * next), quad.Mask(3));
        var basis = new Basis<TSource, TTarget>(signs, 0, quad.Lane, dims.From.Width);
        Scales2 scales = LoadScales<TSource>(AppendKernel.Page(arena, moves[move]), dims.From, quad);
        LaneCodes e = Value<TSource, TTarget>(a, scales.Of(0, quad.Mask(0)), basis, lane, dims);
        LaneCodes f = Value<TSource, TTarget>(b, scales.Of(1, quad.Mask(1)), basis, lane, dims);
        LaneCodes g = Value<TSource, TTarget>(c, scales.Of(2, quad.Mask(2)), basis, lane, dims);
        LaneCodes h = Value<TSource, TTarget>(d, scales.Of(3, quad.Mask(3)), basis, lane, dims);
        if ((e.IsKept | f.IsKept | g.IsKept | h.IsKept) != 0)
        {
            TranscodeKernels.Keep(moves, move);
        }

        ArrayView<Words4> target4 = Page(arena4, moves[move + 1]);
        StoreValue<TTarget>(target, target4, dims.To, quad, 0, e.Words);
        StoreValue<TTarget>(target, target4, dims.To, quad, 1, f.Words);
        StoreValue<TTarget>(target, target4, dims.To, quad, 2, g.Words);
        StoreValue<TTarget>(target, target4, dims.To, quad, 3, h.Words);
        StoreScales<TTarget>(target, dims.To, quad, e, f, g, h);
    }

    /// <summary>Keys with their page's digest, or of <see cref="NoTarget"/> the digest alone. A group for each move; shared: <see cref="MoveDims.SharedFloats"/>.</summary>
    public static void Keys<TSource, TTarget>(
        ArrayView<int> arena, ArrayView<Words4> arena4, ArrayView<int> moves, ArrayView<Four> signs, MoveDims dims)
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
        ArrayView<Words4> source4 = Page(arena4, moves[move]);
        ArrayView<Words4> target4 = Page(arena4, moves[move + 1]);
        int lane = Group.IdxX & (dims.Lanes - 1);
        int quadsAtOnce = Group.DimX / dims.Lanes;
        int vector = default(TTarget).Scales == Scaling.Gain ? moves[move + TranscodeKernels.Signs] : 0;
        int isKept = 0;
        for (int first = 0; 4 * first < tokens; first += quadsAtOnce)
        {
            var quad = new Quad(tokens, first + (Group.IdxX / dims.Lanes), lane, dims);
            int column = (dims.From.First >> 2) + (quad.Lane * default(TSource).Words * (dims.From.PageTokens >> 2)) + quad.Source;
            int next = dims.From.PageTokens >> 2;
            Words4 p = source4[column];
            Words4 q = source4[column + next];
            Words4 r = source4[column + (2 * next)];
            Words4 s = source4[column + (3 * next)];
            Words4 t = default;
            Words4 u = default;
            Words4 v = default;
            Words4 w = default;
            if (default(TSource).Words == 8)
            {
                t = source4[column + (4 * next)];
                u = source4[column + (5 * next)];
                v = source4[column + (6 * next)];
                w = source4[column + (7 * next)];
            }

            Scales2 scales = LoadScales<TSource>(source, dims.From, quad);
            LaneWords a = LaneWords.Of(LaneWords.Words(p.X, q.X, r.X, s.X), LaneWords.Words(t.X, u.X, v.X, w.X));
            LaneWords b = LaneWords.Of(LaneWords.Words(p.Y, q.Y, r.Y, s.Y), LaneWords.Words(t.Y, u.Y, v.Y, w.Y));
            LaneWords c = LaneWords.Of(LaneWords.Words(p.Z, q.Z, r.Z, s.Z), LaneWords.Words(t.Z, u.Z, v.Z, w.Z));
            LaneWords d = LaneWords.Of(LaneWords.Words(p.W, q.W, r.W, s.W), LaneWords.Words(t.W, u.W, v.W, w.W));
            var basis = new Basis<TSource, TTarget>(signs, vector, quad.Lane, dims.From.Width);
            LaneCodes e = Key<TSource, TTarget>(a, scales.Of(0, quad.Mask(0)), basis, quad, 0, shared, dims);
            LaneCodes f = Key<TSource, TTarget>(b, scales.Of(1, quad.Mask(1)), basis, quad, 1, shared, dims);
            LaneCodes g = Key<TSource, TTarget>(c, scales.Of(2, quad.Mask(2)), basis, quad, 2, shared, dims);
            LaneCodes h = Key<TSource, TTarget>(d, scales.Of(3, quad.Mask(3)), basis, quad, 3, shared, dims);
            isKept |= e.IsKept | f.IsKept | g.IsKept | h.IsKept;
            if (default(TTarget).Scales == Scaling.Gain)
            {
                StoreRms(rms, quad, e, f, g, h);
            }
            else if (default(TTarget).Words > 0)
            {
                StoreKeys<TTarget>(target, target4, dims.To, quad, e, f, g, h);
                StoreScales<TTarget>(target, dims.To, quad, e, f, g, h);
            }
        }

        if (isKept != 0)
        {
            TranscodeKernels.Keep(moves, move);
        }

        Group.Barrier();
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
            target[dims.To.Mean + w] = Halves(mean, w, dims.Lanes);
            target[dims.To.Mean + dims.To.MeanWords + w] = Halves(deviation, w, dims.Lanes);
        }

        for (int first = 0; default(TTarget).Scales == Scaling.Gain && 4 * first < tokens; first += quadsAtOnce)
        {
            var quad = new Quad(tokens, first + (Group.IdxX / dims.Lanes), lane, dims);
            Sixteen center = Staged(mean, 0, lane, dims.Lanes);
            LaneCodes e = Level<TTarget>(shared, center, rms, quad, 0, dims);
            LaneCodes f = Level<TTarget>(shared, center, rms, quad, 1, dims);
            LaneCodes g = Level<TTarget>(shared, center, rms, quad, 2, dims);
            LaneCodes h = Level<TTarget>(shared, center, rms, quad, 3, dims);
            StoreKeys<TTarget>(target, target4, dims.To, quad, e, f, g, h);
            StoreScales<TTarget>(target, dims.To, quad, e, f, g, h);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ArrayView<Words4> Page(ArrayView<Words4> arena, int slot)
    {
        long first = (long)slot * (PageLayout.UnitWords / 4);
        return arena.SubView(first, arena.Length - first);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneWords LoadValue<TSource>(ArrayView<Words4> page, int at, int mask)
        where TSource : struct, IMoveSource =>
        LaneWords.Masked(LaneWords.Of(page[at], default(TSource).Words == 8 ? page[at + 1] : default), mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Scales2 LoadScales<TSource>(ArrayView<int> page, PartDims part, Quad quad)
        where TSource : struct, IMoveSource
    {
        int at = part.Scales + (2 * quad.Source);
        return default(TSource).IsRotated ? new Scales2(page[at], page[at + 1]) : default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneCodes Value<TSource, TTarget>(LaneWords words, float scale, Basis<TSource, TTarget> basis, int lane, MoveDims dims)
        where TSource : struct, IMoveSource
        where TTarget : struct, IMoveTarget
    {
        Sixteen x = basis.Change(default(TSource).Decode(words, scale), lane, dims);
        LaneCodes codes = Encode<TTarget>(x, lane, dims);
        codes.IsKept |= Sixteen.IsNotFinite(x);
        return codes;
    }

    // A key -> shared memory, and its codes if they need nothing of the page's other tokens.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static LaneCodes Key<TSource, TTarget>(
        LaneWords words, float scale, Basis<TSource, TTarget> basis, Quad quad, int k, ArrayView<float> shared, MoveDims dims)
        where TSource : struct, IMoveSource
        where TTarget : struct, IMoveTarget
    {
        Sixteen x = default(TSource).Decode(LaneWords.Masked(words, quad.Mask(k)), scale);
        x = basis.Change(x, quad.Own, dims);
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
            Stage(shared, token * dims.Stride, quad.Own, dims.Lanes, x);
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
        Sixteen e = Sixteen.Difference(Staged(shared, token * dims.Stride, quad.Own, dims.Lanes), mean);
        float square = Sixteen.SquareSum(e, quad.Own, dims.Lanes);
        float length = MathF.Sqrt(square);
        float inverse = square > 0f ? MathF.Sqrt(dims.From.Width) * LevelTable.Unit(default(TTarget).LevelBits) / length : 0f;
        LaneCodes codes = default;
        Words4 levelCodes = default(TTarget).Encode(e, 0f, inverse);
        codes.Words = default(TTarget).Pack(levelCodes);
        int squares = quad.IsActive ? default(TTarget).Squares(levelCodes) : 0;
        for (int mask = 1; mask < dims.Lanes; mask <<= 1)
        {
            squares += Warp.ShuffleXor(squares, mask);
        }

        // Exact in binary32 up to 256 elements: a quarter for each, beside whole numbers below 2^22.
        float levels = squares + MoveAsm.Mul(dims.From.Width, 0.25f);
        codes.First = (uint)rms[token];
        codes.Second = square > 0f ? PortableMath.Half(length / MathF.Sqrt(levels)) : 0;
        return codes;
    }

    // Element 16 lane + j of a vector lies at j * lanes + lane: the lanes of a warp are in different banks.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Stage(ArrayView<float> shared, int at, int lane, int lanes, Sixteen x)
    {
        Stage(shared, at + lane, lanes, x.A);
        Stage(shared, at + lane + (4 * lanes), lanes, x.B);
        Stage(shared, at + lane + (8 * lanes), lanes, x.C);
        Stage(shared, at + lane + (12 * lanes), lanes, x.D);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Stage(ArrayView<float> shared, int at, int lanes, Four x)
    {
        shared[at] = x.X;
        shared[at + lanes] = x.Y;
        shared[at + (2 * lanes)] = x.Z;
        shared[at + (3 * lanes)] = x.W;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Sixteen Staged(ArrayView<float> shared, int at, int lane, int lanes) => Sixteen.Of(
        Staged(shared, at + lane, lanes),
        Staged(shared, at + lane + (4 * lanes), lanes),
        Staged(shared, at + lane + (8 * lanes), lanes),
        Staged(shared, at + lane + (12 * lanes), lanes));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Staged(ArrayView<float> shared, int at, int lanes) =>
        Four.Of(shared[at], shared[at + lanes], shared[at + (2 * lanes)], shared[at + (3 * lanes)]);

    // Elements 2 w and 2 w + 1 of a vector that is laid out as above.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Halves(ArrayView<float> vector, int w, int lanes)
    {
        int at = ((2 * w) & 15) * lanes + (w >> 3);
        return (int)(PortableMath.SaturatedHalf(vector[at]) | (PortableMath.SaturatedHalf(vector[at + lanes]) << 16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRms(ArrayView<int> rms, Quad quad, LaneCodes a, LaneCodes b, LaneCodes c, LaneCodes d)
    {
        if (quad.Own == 0 && quad.Count > 0)
        {
            int at = 4 * quad.Source;
            rms[at] = (int)a.First;
            rms[at + 1] = (int)b.First;
            rms[at + 2] = (int)c.First;
            rms[at + 3] = (int)d.First;
        }
    }

    // Codes of a quad of values: a token's words are neighbours.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreValue<TTarget>(ArrayView<int> page, ArrayView<Words4> page4, PartDims part, Quad quad, int k, Words4 words)
        where TTarget : struct, IMoveTarget
    {
        int thirds = default(TTarget).HasThirds ? Thirds(words.Y, quad.Own) : 0;
        if (!quad.IsTaken(k) || !quad.Stores<TTarget>())
        {
            return;
        }

        int row = part.First + (((4 * quad.Source) + k) * part.Words);
        if (default(TTarget).HasThirds)
        {
            int chunk = row + (3 * (quad.Own >> 1));
            page[chunk + (quad.Own & 1)] = words.X;
            if ((quad.Own & 1) == 0)
            {
                page[chunk + 2] = thirds;
            }
        }
        else if (default(TTarget).Words == 4)
        {
            page4[(row >> 2) + quad.Own] = words;
        }
        else
        {
            page[row + (quad.Own * default(TTarget).Words)] = words.X;
            if (default(TTarget).Words == 2)
            {
                page[row + (quad.Own * 2) + 1] = words.Y;
            }
        }
    }

    // Codes of a quad of keys: a word of four tokens is one store.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreKeys<TTarget>(
        ArrayView<int> page, ArrayView<Words4> page4, PartDims part, Quad quad, LaneCodes a, LaneCodes b, LaneCodes c, LaneCodes d)
        where TTarget : struct, IMoveTarget
    {
        var column = new Column(page, page4, part, quad);
        if (default(TTarget).HasThirds)
        {
            Words4 thirds = LaneWords.Words(
                Thirds(a.Words.Y, quad.Own), Thirds(b.Words.Y, quad.Own), Thirds(c.Words.Y, quad.Own), Thirds(d.Words.Y, quad.Own));
            if (quad.Stores<TTarget>())
            {
                int chunk = 3 * (quad.Own >> 1);
                column.Store(chunk + (quad.Own & 1), LaneWords.Words(a.Words.X, b.Words.X, c.Words.X, d.Words.X));
                if ((quad.Own & 1) == 0)
                {
                    column.Store(chunk + 2, thirds);
                }
            }
        }
        else if (quad.Stores<TTarget>())
        {
            int first = quad.Own * default(TTarget).Words;
            column.Store(first, LaneWords.Words(a.Words.X, b.Words.X, c.Words.X, d.Words.X));
            if (default(TTarget).Words > 1)
            {
                column.Store(first + 1, LaneWords.Words(a.Words.Y, b.Words.Y, c.Words.Y, d.Words.Y));
            }

            if (default(TTarget).Words > 2)
            {
                column.Store(first + 2, LaneWords.Words(a.Words.Z, b.Words.Z, c.Words.Z, d.Words.Z));
                column.Store(first + 3, LaneWords.Words(a.Words.W, b.Words.W, c.Words.W, d.Words.W));
            }
        }
    }

    // The third bits of 32 elements, from the two lanes that have them.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Thirds(int bits, int lane)
    {
        int own = bits << (2 * (lane & 1));
        return own | Warp.ShuffleXor(own, 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreScales<TTarget>(ArrayView<int> page, PartDims part, Quad quad, LaneCodes a, LaneCodes b, LaneCodes c, LaneCodes d)
        where TTarget : struct, IMoveTarget
    {
        if (default(TTarget).Scales == Scaling.None)
        {
            return;
        }

        // The first lane of a group of V4 writes its two planes, of other formats the first lane of the vector.
        int lanes = part.ScaleGroup >> 4;
        int own = default(TTarget).Scales == Scaling.Group ? quad.Own % lanes : quad.Own;
        int plane = default(TTarget).Scales == Scaling.Group ? quad.Own / lanes * 2 : 0;
        if (own != 0 || !quad.IsActive || quad.Count <= 0)
        {
            return;
        }

        int at = part.Scales + (plane * part.PlaneWords) + (2 * quad.Source);
        StorePlane(page, at, quad, a.First, b.First, c.First, d.First);
        if (default(TTarget).Scales is Scaling.Group or Scaling.Gain)
        {
            StorePlane(page, at + part.PlaneWords, quad, a.Second, b.Second, c.Second, d.Second);
        }
    }

    // Two tokens share a word; that of the last token has zeros beside it where the tokens are odd in number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePlane(ArrayView<int> page, int at, Quad quad, uint a, uint b, uint c, uint d)
    {
        page[at] = (int)(a | (quad.Count > 1 ? b << 16 : 0));
        if (quad.Count > 2)
        {
            page[at + 1] = (int)(c | (quad.Count > 3 ? d << 16 : 0));
        }
    }

    /// <summary>Four neighbouring tokens of a page, as one lane of their vectors sees them.</summary>
    private readonly struct Quad
    {
        /// <summary>Which quad of the page is read; the last one where <see cref="Count"/> says that there is none.</summary>
        public readonly int Source;

        /// <summary>Tokens that the page has from the quad on; 0 or less if none.</summary>
        public readonly int Count;

        /// <summary>The lane among those of a vector.</summary>
        public readonly int Own;

        /// <summary>True if the lane has elements.</summary>
        public readonly bool IsActive;

        /// <summary>The lane whose elements are read: its own, or the first.</summary>
        public readonly int Lane;

        private readonly int _active;

        public Quad(int tokens, int quad, int lane, MoveDims dims)
        {
            int last = (dims.From.PageTokens >> 2) - 1;
            Source = quad < last ? quad : last;
            Count = tokens - (4 * quad);
            Own = lane;
            _active = dims.From.Width >> 4;
            IsActive = lane < _active;
            Lane = IsActive ? lane : 0;
        }

        /// <summary>True if the page has the quad's token <paramref name="k"/>.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public bool IsTaken(int k) => k < Count;

        /// <summary>All bits where there is such a token and the lane has elements of it, else none.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public int Mask(int k) => IsActive && k < Count ? -1 : 0;

        /// <summary>True if the lane has words to store. The lane beside the last one has, where third bits of both share words.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public bool Stores<TTarget>()
            where TTarget : struct, IMoveTarget => Own < (default(TTarget).HasThirds ? (_active + 1) & ~1 : _active);
    }

    /// <summary>Where a quad of keys is written.</summary>
    private readonly struct Column(ArrayView<int> page, ArrayView<Words4> page4, PartDims part, Quad quad)
    {
        private readonly ArrayView<int> _page = page;
        private readonly ArrayView<Words4> _page4 = page4;
        private readonly int _first = part.First + (4 * quad.Source);
        private readonly int _stride = part.WordStride;
        private readonly int _count = quad.Count;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Store(int word, Words4 tokens)
        {
            int at = _first + (word * _stride);
            if (_count >= 4)
            {
                _page4[at >> 2] = tokens;
                return;
            }

            if (_count > 0)
            {
                _page[at] = tokens.X;
            }

            if (_count > 1)
            {
                _page[at + 1] = tokens.Y;
            }

            if (_count > 2)
            {
                _page[at + 2] = tokens.Z;
            }
        }
    }

    /// <summary>The scales of a quad of an I8 page.</summary>
    private readonly struct Scales2(int low, int high)
    {
        private readonly int _low = low;
        private readonly int _high = high;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public float Of(int k, int mask)
        {
            int word = (k < 2 ? _low : _high) & mask;
            return (k & 1) == 0 ? MoveAsm.LowHalf(word) : MoveAsm.HighHalf(word);
        }
    }

    /// <summary>As <see cref="TokenCodec.ChangeBasis"/>: from the source's basis to the target's.</summary>
    private readonly struct Basis<TSource, TTarget>
        where TSource : struct, IMoveSource
        where TTarget : struct, IMoveTarget
    {
        private readonly ArrayView<Four> _all;
        private readonly Sixteen _signs;
        private readonly int _first;
        private readonly bool _isApart;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Basis(ArrayView<Four> signs, int vector, int lane, int width)
        {
            _all = signs;
            _first = ((vector * width) >> 2) + (4 * lane);
            _isApart = vector != 0;
            _signs = !default(TSource).IsRotated && default(TTarget).IsRotated ? Load(signs, _first) : default;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Sixteen Change(Sixteen x, int lane, MoveDims dims)
        {
            int block = dims.From.Width & -dims.From.Width;
            if (!default(TSource).IsRotated && default(TTarget).IsRotated)
            {
                return Sixteen.Transform(Sixteen.Product(x, _signs), block, lane, dims.Norm);
            }

            // I8 to a T format under key scales: back to the plain basis first.
            if (default(TSource).IsRotated && default(TTarget).Scales == Scaling.Gain && _isApart)
            {
                int own = lane < dims.From.Width >> 4 ? lane : 0;
                Sixteen plain = Sixteen.Product(Sixteen.Transform(x, block, lane, dims.Norm), Load(_all, 4 * own, false));
                x = Sixteen.Transform(Sixteen.Product(plain, Load(_all, _first, true)), block, lane, dims.Norm);
            }

            return x;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Sixteen Load(ArrayView<Four> signs, int at) => Load(signs, at, default(TTarget).Scales == Scaling.Gain);

        // Keys are multiplied by the scales that the signs are divided by.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Sixteen Load(ArrayView<Four> signs, int at, bool isInverse)
        {
            Sixteen found = Sixteen.Of(signs[at], signs[at + 1], signs[at + 2], signs[at + 3]);
            return isInverse ? Sixteen.Of(Inverse(found.A), Inverse(found.B), Inverse(found.C), Inverse(found.D)) : found;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Four Inverse(Four a) => Four.Of(
            PortableMath.InverseOfPower(a.X), PortableMath.InverseOfPower(a.Y), PortableMath.InverseOfPower(a.Z), PortableMath.InverseOfPower(a.W));
    }
}
