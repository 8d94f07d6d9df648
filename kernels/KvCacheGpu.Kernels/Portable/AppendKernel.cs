using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How the keys and values of one append lie. Passed by value.</summary>
/// <param name="layer">The layer.</param>
/// <param name="keys">The keys.</param>
/// <param name="values">The values.</param>
internal readonly struct AppendDims(int layer, TensorDims keys, TensorDims values)
{
    public readonly int Layer = layer;
    public readonly TensorDims Keys = keys;
    public readonly TensorDims Values = values;
}

/// <summary>Writes a batch's keys and values into open pages. One group per (token, head).</summary>
internal static class AppendKernel
{
    /// <summary>keys[tokens][heads][key width], values[tokens][heads][value width] of any types and strides -> the tail pages of a layer.</summary>
    public static void Append<TKey, TValue>(
        ArrayView<int> arena, ArrayView<int> batch, ArrayView<ushort> keys, ArrayView<ushort> values, AppendDims call, KernelDims dims)
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
        var keyWordsOf = new WordRange(t, dims.PageTokens, keyWords);
        bool keyRefused = Store<TKey>(page, keyWordsOf, keys, call.Keys.At(token, head), call.Keys.Type, dims.KeyRefusedFrom);
        var valueWordsOf = new WordRange((keyWords * dims.PageTokens) + (t * valueWords), 1, valueWords);
        bool valueRefused = Store<TValue>(page, valueWordsOf, values, call.Values.At(token, head), call.Values.Type, dims.ValueRefusedFrom);

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

    private static bool Store<TCodec>(ArrayView<int> page, WordRange target, ArrayView<ushort> source, long at, int type, uint refusedFrom)
        where TCodec : struct, IPortableCodec
    {
        bool refused = false;
        ArrayView<float> noBoundaries = page.Cast<float>();
        for (int w = Group.IdxX; w < target.Count; w += Group.DimX)
        {
            uint word = 0;
            for (int j = 0; j < default(TCodec).ElementsPerChunk; j++)
            {
                float x = TypedElements.Load(source, at + (w * default(TCodec).ElementsPerChunk) + j, type);
                refused |= (Interop.FloatAsInt(x) & 0x7FFFFFFF) >= refusedFrom;
                word |= default(TCodec).Place(default(TCodec).Code(x, 0f, 1f, noBoundaries), j, 0);
            }

            page[target.First + (w * target.Stride)] = (int)word;
        }

        return refused;
    }

    // Where a token's words lie in its page.
    private readonly struct WordRange(int first, int stride, int count)
    {
        public readonly int First = first;
        public readonly int Stride = stride;
        public readonly int Count = count;
    }
}
