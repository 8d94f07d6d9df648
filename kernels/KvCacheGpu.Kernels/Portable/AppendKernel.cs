using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How the keys and values of one append lie. Passed by value.</summary>
/// <param name="layer">The layer.</param>
/// <param name="keyTokenStride">Elements of the keys from one token to the next.</param>
/// <param name="keyHeadStride">Elements from one head to the next.</param>
/// <param name="valueTokenStride">The same of the values.</param>
/// <param name="valueHeadStride">The same of the values.</param>
internal readonly struct AppendDims(int layer, int keyTokenStride, int keyHeadStride, int valueTokenStride, int valueHeadStride)
{
    public readonly int Layer = layer;
    public readonly int KeyTokenStride = keyTokenStride;
    public readonly int KeyHeadStride = keyHeadStride;
    public readonly int ValueTokenStride = valueTokenStride;
    public readonly int ValueHeadStride = valueHeadStride;
}

/// <summary>Writes a batch's keys and values into open pages. One group per (token, head).</summary>
internal static class AppendKernel
{
    /// <summary>keys[tokens][heads][key width], values[tokens][heads][value width] at any strides -> the tail pages of a layer.</summary>
    public static void Append<TKey, TValue>(
        ArrayView<int> arena, ArrayView<int> batch, ArrayView<float> keys, ArrayView<float> values, AppendDims call, KernelDims dims)
        where TKey : struct, IPortableCodec
        where TValue : struct, IPortableCodec
    {
        int token = Grid.IdxX / dims.KvHeads;
        int head = Grid.IdxX - (token * dims.KvHeads);
        int sequence = batch[dims.Owners + token];
        if (sequence < 0)
        {
            return;
        }

        int owner = dims.Sequences + (sequence * KernelDims.SequenceWords);
        int length = batch[owner + 3];
        int position = length - batch[owner + 2] + token - batch[owner + 1];
        int entry = arena[dims.CountWord(batch[owner], call.Layer, head)] - 1 - (((length - 1) / dims.PageTokens) - (position / dims.PageTokens));
        ArrayView<int> page = Page(arena, dims.Leaf(arena, batch[owner], entry)[dims.InLeaf(call.Layer, head, entry)]);
        int t = position % dims.PageTokens;
        if (t == 0 && dims.LeafScores != 0)
        {
            // A page begins without scores.
            ArrayView<int> leaf = dims.Leaf(arena, batch[owner], position / dims.PageTokens);
            int scores = dims.LeafScores + (dims.InLeaf(call.Layer, head, position / dims.PageTokens) * TableMap.ScoreWords);
            for (int i = Group.IdxX; i < TableMap.ScoreWords; i += Group.DimX)
            {
                leaf[scores + i] = 0;
            }
        }

        int keyWords = dims.KeyWidth / default(TKey).ElementsPerChunk;
        int valueWords = dims.ValueWidth / default(TValue).ElementsPerChunk;
        bool keyRefused = Store<TKey>(
            page, t, dims.PageTokens, keyWords, keys, ((long)token * call.KeyTokenStride) + ((long)head * call.KeyHeadStride), dims.KeyRefusedFrom);
        bool valueRefused = Store<TValue>(
            page,
            (keyWords * dims.PageTokens) + (t * valueWords),
            1,
            valueWords,
            values,
            ((long)token * call.ValueTokenStride) + ((long)head * call.ValueHeadStride),
            dims.ValueRefusedFrom);

        // The least code is the first in (layer, token, head) order, in any order of groups.
        int code = ((((call.Layer * dims.MaxTokens) + token) * dims.KvHeads) + head) * 2;
        if (keyRefused)
        {
            Atomic.Min(ref batch[0], code);
        }

        if (valueRefused)
        {
            Atomic.Min(ref batch[0], code + 1);
        }
    }

    /// <summary>The words of a slot and all behind it.</summary>
    public static ArrayView<int> Page(ArrayView<int> arena, int slot)
    {
        long first = (long)slot * PageLayout.UnitWords;
        return arena.SubView(first, arena.Length - first);
    }

    private static bool Store<TCodec>(
        ArrayView<int> page, int first, int wordStride, int words, ArrayView<float> source, long at, uint refusedFrom)
        where TCodec : struct, IPortableCodec
    {
        bool refused = false;
        for (int w = Group.IdxX; w < words; w += Group.DimX)
        {
            uint word = 0;
            for (int j = 0; j < default(TCodec).ElementsPerChunk; j++)
            {
                float x = source[at + (w * default(TCodec).ElementsPerChunk) + j];
                refused |= (Interop.FloatAsInt(x) & 0x7FFFFFFF) >= refusedFrom;
                word |= default(TCodec).Place(default(TCodec).Code(x, 0f, 1f, source), j, 0);
            }

            page[first + (w * wordStride)] = (int)word;
        }

        return refused;
    }
}
