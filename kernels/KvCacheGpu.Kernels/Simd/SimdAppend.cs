namespace KvCacheGpu.Kernels;

/// <summary>Writes a batch's keys and values into open pages: an item is (sequence, KV head).</summary>
internal sealed unsafe class SimdAppend<S, F, I> : SimdAppendWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;

    public SimdAppend(SimdTier tier, SimdBatch batch) => (_tier, _batch) = (tier, batch);

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        KvGeometry g = _tier.Shape.Geometry;
        PageLayout layout = _tier.Shape.Classes[KernelShape.Open];
        (int index, int head) = Math.DivRem(item, g.KvHeads);
        RaggedSequence sequence = _batch.Sequences[index];
        int row = _tier.Map.Row(sequence.Sequence, Layer, head);
        int lastPage = (sequence.Length - 1) / g.PageTokens;
        int padded = (Math.Max(g.KeyWidth, g.ValueWidth) + S.Lanes - 1) / S.Lanes * S.Lanes;
        float* vector = stackalloc float[padded];
        int* words = stackalloc int[padded];
        new Span<float>(vector, padded).Clear();
        for (int i = 0; i < sequence.Tokens; i++)
        {
            int position = sequence.Length - sequence.Tokens + i;
            (int pageIndex, int token) = Math.DivRem(position, g.PageTokens);
            int entry = _tier.Tables[row] - 1 - (lastPage - pageIndex);
            int* page = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, entry)]);
            Keys.Read(sequence.FirstToken + i, head, g.KeyWidth, vector);
            if (PackVector<S, F, I>.Pack(layout.KeyFormat, vector, g.KeyWidth, words) >= _tier.Shape.KeyRefusedFrom)
            {
                _batch.Refuse(new NonFinite(Layer, sequence.FirstToken + i, head, IsValue: false));
            }

            for (int w = 0; w < layout.KeyWords; w++)
            {
                page[(w * g.PageTokens) + token] = words[w];
            }

            // A key's tail must not reach into a narrower value's last lanes.
            new Span<float>(vector, padded).Clear();
            Values.Read(sequence.FirstToken + i, head, g.ValueWidth, vector);
            if (PackVector<S, F, I>.Pack(layout.ValueFormat, vector, g.ValueWidth, words) >= _tier.Shape.ValueRefusedFrom)
            {
                _batch.Refuse(new NonFinite(Layer, sequence.FirstToken + i, head, IsValue: true));
            }

            new Span<int>(words, layout.ValueWords).CopyTo(new Span<int>(page + layout.ValueOffset + (token * layout.ValueWords), layout.ValueWords));
            new Span<float>(vector, padded).Clear();
        }
    }
}
