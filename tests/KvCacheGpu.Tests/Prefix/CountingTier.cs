using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>A tier that counts what it is asked to do.</summary>
internal sealed unsafe class CountingTier(KernelTier inner) : KernelTier(inner.Shape, inner.ArenaBytes)
{
    /// <summary>Tokens appended and attended from, over all layers; pages moved.</summary>
    public (long Appended, long Attended, long Moved) Work { get; set; }

    /// <summary>Called before words of the arena are read.</summary>
    public Action? Reading { get; set; }

    public override string Name => inner.Name;

    public override int* Tables => inner.Tables;

    public override long LeafHostBytes => inner.LeafHostBytes;

    public override void WriteCount(int sequence, int row, int count) => inner.WriteCount(sequence, row, count);

    public override int* OpenLeaf(int sequence, int leaf, int slot) => inner.OpenLeaf(sequence, leaf, slot);

    public override void CloseLeaf(int sequence, int leaf) => inner.CloseLeaf(sequence, leaf);

    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag) => inner.WriteEntry(sequence, row, entry, slot, tag);

    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => new Batch(this, inner.CreateBatch(maxSequences, maxTokens));

    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        Count(moves);
        inner.Transcode(moves, kept);
    }

    private void Count(ReadOnlySpan<PageMove> moves)
    {
        foreach (PageMove move in moves)
        {
            // A digest written into a page where it lies moves none.
            Work = Work with { Moved = Work.Moved + (move.SourceSlot == move.TargetSlot ? 0 : 1) };
        }
    }

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => inner.Materialize(reads, keys, values);

    public override void ClearScores(int sequence) => inner.ClearScores(sequence);

    public override void Read(long word, Span<int> target)
    {
        Reading?.Invoke();
        inner.Read(word, target);
    }

    public override void Load(long word, ReadOnlySpan<int> source) => inner.Load(word, source);

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales) => inner.SetKeyScales(table, scales);

    /// <inheritdoc/>
    public override bool SumsQueries { get => inner.SumsQueries; set => inner.SumsQueries = value; }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares) => inner.ReadQuerySums(squares);

    public override void Synchronize() => inner.Synchronize();

    public override void Dispose() => inner.Dispose();

    private sealed class Batch(CountingTier tier, KernelBatch inner) : KernelBatch
    {
        private int _tokens;

        public override long ScratchBytes => inner.ScratchBytes;

        public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default)
        {
            _tokens = 0;
            foreach (RaggedSequence sequence in sequences)
            {
                _tokens += sequence.Tokens;
            }

            inner.Begin(sequences, stream);
        }

        public override void Append(int layer, KvTensor keys, KvTensor values)
        {
            tier.Work = tier.Work with { Appended = tier.Work.Appended + _tokens };
            inner.Append(layer, keys, values);
        }

        public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
        {
            tier.Work = tier.Work with { Attended = tier.Work.Attended + _tokens };
            inner.Attend(layer, queries, output, window);
        }

        public override void Observe(int layer, KvTensor queries, int last) => inner.Observe(layer, queries, last);

        public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => inner.Materialize(reads, keys, values);

        public override void Score(float decay, int step) => inner.Score(decay, step);

        public override void Seal(ReadOnlySpan<PageMove> moves)
        {
            tier.Count(moves);
            inner.Seal(moves);
        }

        public override void Finish() => inner.Finish();

        public override bool HasFinished => inner.HasFinished;

        public override bool IsKept(int move) => inner.IsKept(move);

        public override NonFinite? End() => inner.End();

        public override void Dispose() => inner.Dispose();
    }
}
