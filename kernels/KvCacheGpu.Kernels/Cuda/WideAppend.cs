using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Eight neighbouring elements in registers: as words of the page's own format where <see cref="IsSame"/>, else as numbers.</summary>
internal struct Eight
{
    public Four Low;
    public Four High;
    public Words4 Words;
    public int IsSame;
}

/// <summary>
/// <see cref="AppendKernel"/> for CUDA with 128-bit loads of eight elements. Values are stored so, too. A key's words lie a page apart, so that the lanes of a warp store the same word of
/// neighbouring tokens: whole sectors where the tokens of a batch share a page.
/// </summary>
internal static class WideAppend
{
    /// <summary>Threads of a group.</summary>
    public const int Threads = 128;

    /// <summary>Tokens of a group, all of one head.</summary>
    public const int Tokens = 8;

    /// <summary>Shared integers: slot and place in the page of each token.</summary>
    public const int SharedInts = 2 * Tokens;

    private const int Elements = 8;
    private const int Chunks = Threads / Tokens;

    /// <summary>
    /// keys[tokens][heads][key width], values[tokens][heads][value width] -> the tail pages of a layer. Vectors begin at multiples of 16 bytes and have multiples of eight elements. A group for
    /// each eight tokens and head; shared: <see cref="SharedInts"/>.
    /// </summary>
    public static void Append<TKey, TValue>(
        ArrayView<int> arena, ArrayView<Words4> arena128, ArrayView<int> batch, ArrayView<Words4> keys, ArrayView<Words4> values, int tokens, AppendDims call, KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
    {
        int head = Grid.IdxX % dims.KvHeads;
        int first = Grid.IdxX / dims.KvHeads * Tokens;
        ArrayView<int> places = SharedMemory.GetDynamic<int>();
        if (Group.IdxX < Tokens)
        {
            bool isOwned = first + Group.IdxX < tokens && batch[dims.Owners + first + Group.IdxX] >= 0;
            int position = isOwned ? Position(batch, first + Group.IdxX, dims) : 0;
            places[2 * Group.IdxX] = isOwned ? Slot(arena, batch, first + Group.IdxX, position, head, call.Layer, dims) : -1;
            places[(2 * Group.IdxX) + 1] = position % dims.PageTokens;
        }

        Group.Barrier();
        int keyWords = dims.KeyWidth / default(TKey).ElementsPerChunk;
        int i = Group.IdxX % Tokens;
        int slot = places[2 * i];
        if (slot >= 0)
        {
            ArrayView<int> page = AppendKernel.Page(arena, slot);
            long at = call.Keys.At(first + i, head);
            bool isRefused = false;
            for (int chunk = Group.IdxX / Tokens; chunk < dims.KeyWidth / Elements; chunk += Chunks)
            {
                Eight x = Load<TKey>(keys, at + (chunk * Elements), call.Keys.Type, dims.KeyRefusedFrom);
                isRefused |= x.IsSame == 0 && IsRefused(x, dims.KeyRefusedFrom);
                Words4 words = x.IsSame != 0 ? x.Words : Narrow<TKey>(x.Low, x.High, arena);
                int to = places[(2 * i) + 1] + (chunk * (Elements / default(TKey).ElementsPerChunk) * dims.PageTokens);
                StoreKey(page, to, dims.PageTokens, words);
                if (default(TKey).ElementsPerChunk == 1)
                {
                    StoreKey(page, to + (4 * dims.PageTokens), dims.PageTokens, Narrow<TKey>(x.High, x.High, arena));
                }
            }

            Refuse(batch, isRefused, first + i, head, 0, call.Layer, dims);
        }

        i = Group.IdxX / Chunks;
        slot = places[2 * i];
        if (slot >= 0)
        {
            long page = (long)slot * (PageLayout.UnitWords / 4);
            ArrayView<Words4> target = arena128.SubView(page, arena128.Length - page);
            int row = (keyWords * dims.PageTokens) + (places[(2 * i) + 1] * (dims.ValueWidth / default(TValue).ElementsPerChunk));
            long at = call.Values.At(first + i, head);
            bool isRefused = false;
            for (int chunk = Group.IdxX % Chunks; chunk < dims.ValueWidth / Elements; chunk += Chunks)
            {
                Eight x = Load<TValue>(values, at + (chunk * Elements), call.Values.Type, dims.ValueRefusedFrom);
                isRefused |= x.IsSame == 0 && IsRefused(x, dims.ValueRefusedFrom);
                int to = (row + (chunk * (Elements / default(TValue).ElementsPerChunk))) >> 2;
                target[to] = x.IsSame != 0 ? x.Words : Narrow<TValue>(x.Low, x.High, arena);
                if (default(TValue).ElementsPerChunk == 1)
                {
                    target[to + 1] = Narrow<TValue>(x.High, x.High, arena);
                }
            }

            Refuse(batch, isRefused, first + i, head, 1, call.Layer, dims);
        }
    }

    private static int Position(ArrayView<int> batch, int token, KernelDims dims)
    {
        int owner = dims.Sequences + (batch[dims.Owners + token] * KernelDims.SequenceWords);
        return batch[owner + 3] - batch[owner + 2] + token - batch[owner + 1];
    }

    // The page that holds a position; a page that begins there begins without scores.
    private static int Slot(ArrayView<int> arena, ArrayView<int> batch, int token, int position, int head, int layer, KernelDims dims)
    {
        int owner = dims.Sequences + (batch[dims.Owners + token] * KernelDims.SequenceWords);
        int index = position / dims.PageTokens;
        int entry = arena[dims.CountWord(batch[owner], layer, head)] - 1 - (((batch[owner + 3] - 1) / dims.PageTokens) - index);
        if (position % dims.PageTokens == 0 && dims.LeafScores != 0)
        {
            ArrayView<int> leaf = dims.Leaf(arena, batch[owner], index);
            int scores = dims.LeafScores + (dims.InLeaf(layer, head, index) * TableMap.ScoreWords);
            for (int i = 0; i < TableMap.ScoreWords; i++)
            {
                leaf[scores + i] = 0;
            }
        }

        return dims.Leaf(arena, batch[owner], entry)[dims.InLeaf(layer, head, entry)];
    }

    // The least code is the first in (layer, token, head) order, in any order of groups.
    private static void Refuse(ArrayView<int> batch, bool isRefused, int token, int head, int part, int layer, KernelDims dims)
    {
        if (isRefused)
        {
            Atomic.Min(ref batch[0], (((((layer * dims.MaxTokens) + token) * dims.KvHeads) + head) * 2) + part);
        }
    }

    // Elements of the page's own 16-bit format are its words, unless one is refused, or is a NaN, which is written quiet.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Eight Load<TCodec>(ArrayView<Words4> source, long at, int type, uint refusedFrom)
        where TCodec : struct, IPortableCodec
    {
        Eight x = default;
        if (type == (int)TensorType.F32)
        {
            x.Low = Singles(source[at >> 2]);
            x.High = Singles(source[(at >> 2) + 1]);
            return x;
        }

        Words4 words = source[at >> 3];
        x.Words = words;
        bool isOwn = type == (int)TensorType.F16 ? default(TCodec).Largest == Bits16.LargestHalf : default(TCodec).Largest == Bits16.LargestBFloat16;
        uint limit = Limit(type, refusedFrom);
        x.IsSame = isOwn && !(IsBeyond(words.X, limit) | IsBeyond(words.Y, limit) | IsBeyond(words.Z, limit) | IsBeyond(words.W, limit)) ? 1 : 0;
        if (x.IsSame == 0)
        {
            x.Low = Four.Of(Single(words.X, type), Single(words.X >> 16, type), Single(words.Y, type), Single(words.Y >> 16, type));
            x.High = Four.Of(Single(words.Z, type), Single(words.Z >> 16, type), Single(words.W, type), Single(words.W >> 16, type));
        }

        return x;
    }

    // The smallest magnitude that needs a closer look: an infinity, or what is refused. No 16-bit page refuses a finite binary16 number.
    private static uint Limit(int type, uint refusedFrom)
    {
        uint refused = (refusedFrom >> 16) + ((refusedFrom & 0xFFFF) != 0 ? 1u : 0u);
        return type == (int)TensorType.F16 ? 0x7C00 : refused < 0x7F80 ? refused : 0x7F80;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsBeyond(int word, uint limit) => (((uint)word & 0x7FFF) >= limit) | ((((uint)word >> 16) & 0x7FFF) >= limit);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Singles(Words4 words) => Four.Of(
        Interop.IntAsFloat((uint)words.X), Interop.IntAsFloat((uint)words.Y), Interop.IntAsFloat((uint)words.Z), Interop.IntAsFloat((uint)words.W));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Single(int low, int type) => Interop.IntAsFloat(
        type == (int)TensorType.F16 ? Bits16.SingleBitsFromHalf((uint)low & 0xFFFF) : Bits16.SingleBitsFromBFloat16((uint)low & 0xFFFF));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsRefused(Eight x, uint refusedFrom) => IsRefused(x.Low, refusedFrom) | IsRefused(x.High, refusedFrom);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsRefused(Four x, uint refusedFrom) =>
        IsRefused(x.X, refusedFrom) | IsRefused(x.Y, refusedFrom) | IsRefused(x.Z, refusedFrom) | IsRefused(x.W, refusedFrom);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsRefused(float x, uint refusedFrom) => (Interop.FloatAsInt(x) & 0x7FFFFFFF) >= refusedFrom;

    // The words of eight elements in 16 bits, or of the first four in 32.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Words4 Narrow<TCodec>(Four low, Four high, ArrayView<int> arena)
        where TCodec : struct, IPortableCodec => default(TCodec).ElementsPerChunk == 1
        ? LaneWords.Words(Code<TCodec>(low.X, arena), Code<TCodec>(low.Y, arena), Code<TCodec>(low.Z, arena), Code<TCodec>(low.W, arena))
        : LaneWords.Words(Pair<TCodec>(low.X, low.Y, arena), Pair<TCodec>(low.Z, low.W, arena), Pair<TCodec>(high.X, high.Y, arena), Pair<TCodec>(high.Z, high.W, arena));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Pair<TCodec>(float low, float high, ArrayView<int> arena)
        where TCodec : struct, IPortableCodec => Code<TCodec>(low, arena) | (Code<TCodec>(high, arena) << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Code<TCodec>(float x, ArrayView<int> noBoundaries)
        where TCodec : struct, IPortableCodec => (int)default(TCodec).Code(x, 0f, 1f, noBoundaries.Cast<float>());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreKey(ArrayView<int> page, int at, int pageTokens, Words4 words)
    {
        page[at] = words.X;
        page[at + pageTokens] = words.Y;
        page[at + (2 * pageTokens)] = words.Z;
        page[at + (3 * pageTokens)] = words.W;
    }
}
