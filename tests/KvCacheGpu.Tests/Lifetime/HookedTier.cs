using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>A tier that tells of each operation before it does it, so that a test can fail it, or see one that comes too late.</summary>
internal sealed unsafe class HookedTier(KernelTier inner, Action<string> before) : KernelTier(inner.Shape, inner.ArenaBytes)
{
    public override string Name => inner.Name;

    /// <summary>Replaces the copies of pages to host memory and back, where it is set.</summary>
    public PageTransfers? Replaced { get; init; }

    public override PageTransfers Transfers => Replaced ?? base.Transfers;

    public override int* Tables
    {
        get
        {
            before("tables");
            return inner.Tables;
        }
    }

    public override long LeafHostBytes => inner.LeafHostBytes;

    public override void WriteCount(int sequence, int row, int count)
    {
        before("write");
        inner.WriteCount(sequence, row, count);
    }

    public override int* OpenLeaf(int sequence, int leaf, int slot)
    {
        before("open leaf");
        return inner.OpenLeaf(sequence, leaf, slot);
    }

    public override void CloseLeaf(int sequence, int leaf)
    {
        before("close leaf");
        inner.CloseLeaf(sequence, leaf);
    }

    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag)
    {
        before("write");
        inner.WriteEntry(sequence, row, entry, slot, tag);
    }

    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => new Batch(inner.CreateBatch(maxSequences, maxTokens), before);

    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        before("transcode");
        inner.Transcode(moves, kept);
    }

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        before("materialize");
        inner.Materialize(reads, keys, values);
    }

    public override void ClearScores(int sequence)
    {
        before("clear scores");
        inner.ClearScores(sequence);
    }

    public override void Read(long word, Span<int> target)
    {
        before("read");
        inner.Read(word, target);
    }

    public override void Load(long word, ReadOnlySpan<int> source)
    {
        before("load");
        inner.Load(word, source);
    }

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales) => inner.SetKeyScales(table, scales);

    /// <inheritdoc/>
    public override bool SumsQueries { get => inner.SumsQueries; set => inner.SumsQueries = value; }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares) => inner.ReadQuerySums(squares);

    public override void Synchronize()
    {
        before("synchronize");
        inner.Synchronize();
    }

    public override void Dispose()
    {
        inner.Dispose();
        before("disposed");
    }

    private sealed class Batch(KernelBatch inner, Action<string> before) : KernelBatch
    {
        public override long ScratchBytes => inner.ScratchBytes;

        public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default)
        {
            before("begin");
            inner.Begin(sequences, stream);
        }

        public override void Append(int layer, KvTensor keys, KvTensor values)
        {
            before("append");
            inner.Append(layer, keys, values);
        }

        public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
        {
            before("attend");
            inner.Attend(layer, queries, output, window);
        }

        public override void Observe(int layer, KvTensor queries, int last)
        {
            before("observe");
            inner.Observe(layer, queries, last);
        }

        public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
        {
            before("materialize");
            inner.Materialize(reads, keys, values);
        }

        public override void Score(float decay, int step)
        {
            before("score");
            inner.Score(decay, step);
        }

        public override void Seal(ReadOnlySpan<PageMove> moves)
        {
            before("seal");
            inner.Seal(moves);
        }

        public override void Finish()
        {
            before("finish");
            inner.Finish();
        }

        public override bool HasFinished
        {
            get
            {
                before("has finished");
                return inner.HasFinished;
            }
        }

        public override bool IsKept(int move) => inner.IsKept(move);

        public override NonFinite? End()
        {
            before("end");
            return inner.End();
        }

        public override void Dispose() => inner.Dispose();
    }
}
