using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Writes a batch's keys and values into open pages: an item is (sequence, KV head). Keys are packed vector by vector and transposed into their page,
/// as many tokens at a time as there are lanes.
/// </summary>
internal sealed unsafe class SimdAppend<S, F, I> : SimdAppendWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;

    public SimdAppend(SimdTier tier, SimdBatch batch) => (_tier, _batch) = (tier, batch);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker)
    {
        KvGeometry g = _tier.Shape.Geometry;
        PageLayout layout = _tier.Shape.Classes[KernelShape.Open];
        (int index, int head) = Math.DivRem(item, g.KvHeads);
        RaggedSequence sequence = _batch.Sequences[index];
        TableRow row = _batch.RowOf(sequence, Layer, head);
        int lastPage = (sequence.Length - 1) / g.PageTokens;
        int keyStride = TokenWords<S, F, I>.StrideOf(layout.KeyWords);
        int padded = (Math.Max(g.KeyWidth, g.ValueWidth) + S.Lanes - 1) / S.Lanes * S.Lanes;
        float* vector = stackalloc float[padded];
        int* words = stackalloc int[Math.Max(padded, keyStride * Math.Min(S.Lanes, sequence.Tokens))];
        for (int i = 0; i < sequence.Tokens;)
        {
            int position = sequence.Length - sequence.Tokens + i;
            (int pageIndex, int token) = Math.DivRem(position, g.PageTokens);
            int* page = _tier.Page(row[row.Count - 1 - (lastPage - pageIndex)].Slot);

            // Whole squares from the second on: a chunk may start anywhere in its page.
            int some = Math.Min(Math.Min(sequence.Tokens - i, g.PageTokens - token), S.Lanes - (token % S.Lanes));
            if (token == 0 && _tier.Shape.HasStatistics)
            {
                new Span<int>(row.Scores(pageIndex), TableMap.ScoreWords).Clear();
            }

            for (int t = 0; t < some; t++)
            {
                Pack(Keys, sequence.FirstToken + i + t, head, g.KeyWidth, layout.KeyFormat, vector, words + (t * keyStride), isValue: false);
            }

            TokenWords<S, F, I>.WriteKeys(words, layout.KeyWords, page, g.PageTokens, token, some);
            int* values = page + layout.ValueOffset + (token * layout.ValueWords);
            bool isDirect = g.ValueWidth % S.Lanes == 0;
            for (int t = 0; t < some; t++, values += layout.ValueWords)
            {
                Pack(Values, sequence.FirstToken + i + t, head, g.ValueWidth, layout.ValueFormat, vector, isDirect ? values : words, isValue: true);
                if (!isDirect)
                {
                    new Span<int>(words, layout.ValueWords).CopyTo(new Span<int>(values, layout.ValueWords));
                }
            }

            i += some;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Pack(in HostTensor tensor, int token, int head, int width, PageFormat format, float* vector, int* words, bool isValue)
    {
        float* elements = width % S.Lanes == 0 ? tensor.Floats(token, head) : null;
        if (elements == null)
        {
            // Zeros behind the vector: the last register reads them, and they must not be refused.
            int whole = (width + S.Lanes - 1) / S.Lanes * S.Lanes;
            new Span<float>(vector + width, whole - width).Clear();
            tensor.Read(token, head, width, vector);
            elements = vector;
        }

        if (PackVector<S, F, I>.Pack(format, elements, width, words) >= (isValue ? _tier.Shape.ValueRefusedFrom : _tier.Shape.KeyRefusedFrom))
        {
            _batch.Refuse(new NonFinite(Layer, token, head, isValue));
        }
    }
}
