using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>The fault of a broken tier.</summary>
internal enum Perturbation
{
    /// <summary>Nothing: the control.</summary>
    None,

    /// <summary>The first element of each output is off by a ten-thousandth.</summary>
    Output,

    /// <summary>A transcoded page's last word has a bit turned.</summary>
    Encoding,

    /// <summary>An element that no format holds is not reported.</summary>
    Silence,
}

/// <summary>The reference tier with a fault.</summary>
internal sealed unsafe class PerturbedTier(KernelShape shape, long arenaBytes, Perturbation fault) : KernelTier(shape, arenaBytes)
{
    private readonly ReferenceTier _inner = new(shape, arenaBytes);

    public override string Name => "perturbed";

    public override int* Tables => _inner.Tables;

    public override long LeafHostBytes => _inner.LeafHostBytes;

    public override void WriteCount(int sequence, int row, int count) => _inner.WriteCount(sequence, row, count);

    public override int* OpenLeaf(int sequence, int leaf, int slot) => _inner.OpenLeaf(sequence, leaf, slot);

    public override void CloseLeaf(int sequence, int leaf) => _inner.CloseLeaf(sequence, leaf);

    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag) => _inner.WriteEntry(sequence, row, entry, slot, tag);

    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => new Batch(_inner.CreateBatch(maxSequences, maxTokens), fault);

    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        _inner.Transcode(moves, kept);
        if (fault == Perturbation.Encoding)
        {
            foreach (PageMove move in moves)
            {
                int[] word = [0];
                long at = ((long)move.TargetSlot * PageLayout.UnitWords) + Shape.Classes[move.TargetClass].ValueOffset;
                _inner.Read(at, word);
                word[0] ^= 1;
                _inner.Load(at, word);
            }
        }
    }

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => _inner.Materialize(reads, keys, values);

    public override void ClearScores(int sequence) => _inner.ClearScores(sequence);

    public override void Read(long word, Span<int> target) => _inner.Read(word, target);

    public override void Load(long word, ReadOnlySpan<int> source) => _inner.Load(word, source);

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales) => _inner.SetKeyScales(table, scales);

    /// <inheritdoc/>
    public override bool SumsQueries { get => _inner.SumsQueries; set => _inner.SumsQueries = value; }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares) => _inner.ReadQuerySums(squares);

    public override void Synchronize() => _inner.Synchronize();

    public override void Dispose() => _inner.Dispose();

    private sealed class Batch(KernelBatch inner, Perturbation fault) : KernelBatch
    {
        public override long ScratchBytes => inner.ScratchBytes;

        public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default) => inner.Begin(sequences, stream);

        public override void Append(int layer, KvTensor keys, KvTensor values) => inner.Append(layer, keys, values);

        public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
        {
            inner.Attend(layer, queries, output, window);
            if (fault == Perturbation.Output && output.Type == TensorType.F32)
            {
                ref float first = ref MemoryMarshal.Cast<byte, float>(output.Host)[0];
                first += 1e-4f * (1 + MathF.Abs(first));
            }
        }

        public override void Observe(int layer, KvTensor queries, int last) => inner.Observe(layer, queries, last);

        public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => inner.Materialize(reads, keys, values);

        public override void Score(float decay, int step) => inner.Score(decay, step);

        public override void Seal(ReadOnlySpan<PageMove> moves) => inner.Seal(moves);

        public override void Finish() => inner.Finish();

        public override bool HasFinished => inner.HasFinished;

        public override bool IsKept(int move) => inner.IsKept(move);

        public override NonFinite? End()
        {
            NonFinite? refused = inner.End();
            return fault == Perturbation.Silence ? null : refused;
        }

        public override void Dispose() => inner.Dispose();
    }
}
