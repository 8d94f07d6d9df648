namespace KvCacheGpu.Kernels;

/// <summary>Writes a batch's keys and values into open pages: an item is (sequence, KV head).</summary>
internal sealed unsafe class SimdAppend : ParallelWork
{
    private readonly SimdTier _tier;
    private readonly SimdBatch _batch;

    public SimdAppend(SimdTier tier, SimdBatch batch) => (_tier, _batch) = (tier, batch);

    public int Layer { get; set; }

    public HostTensor Keys { get; set; }

    public HostTensor Values { get; set; }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        KvGeometry g = _tier.Shape.Geometry;
        PageLayout layout = _tier.Shape.Classes[KernelShape.Open];
        (int index, int head) = Math.DivRem(item, g.KvHeads);
        RaggedSequence sequence = _batch.Sequences[index];
        int row = _tier.Map.Row(sequence.Sequence, Layer, head);
        int lastPage = (sequence.Length - 1) / g.PageTokens;
        float* vector = stackalloc float[Math.Max(g.KeyWidth, g.ValueWidth)];
        for (int i = 0; i < sequence.Tokens; i++)
        {
            int position = sequence.Length - sequence.Tokens + i;
            (int pageIndex, int token) = Math.DivRem(position, g.PageTokens);
            int entry = _tier.Tables[row] - 1 - (lastPage - pageIndex);
            int* page = _tier.Page(_tier.Tables[_tier.Map.SlotWord(row, entry)]);
            Keys.Read(sequence.FirstToken + i, head, g.KeyWidth, vector);
            if (!PageVector.Write(layout.KeyFormat, vector, g.KeyWidth, page + token, g.PageTokens, _tier.Shape.KeyRefusedFrom))
            {
                _batch.Refuse(new NonFinite(Layer, sequence.FirstToken + i, head, IsValue: false));
            }

            Values.Read(sequence.FirstToken + i, head, g.ValueWidth, vector);
            if (!PageVector.Write(
                layout.ValueFormat, vector, g.ValueWidth, page + layout.ValueOffset + (token * layout.ValueWords), 1, _tier.Shape.ValueRefusedFrom))
            {
                _batch.Refuse(new NonFinite(Layer, sequence.FirstToken + i, head, IsValue: true));
            }
        }
    }
}
