using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A tier under an engine whose configuration poisons pages. If the device can, a page that the engine fills as freed is forbidden until the
/// engine fills it as fresh.
/// </summary>
internal sealed unsafe class PoisonedTier(KernelTier inner) : KernelTier(inner.Shape, inner.ArenaBytes)
{
    private readonly DevicePoison? _poison = DevicePoison.Of(inner);
    private readonly Dictionary<long, int> _freed = [];

    public override string Name => inner.Name;

    public override int* Tables => inner.Tables;

    public override PageTransfers Transfers => inner.Transfers;

    public override long LeafHostBytes => inner.LeafHostBytes;

    public override void WriteCount(int sequence, int row, int count) => inner.WriteCount(sequence, row, count);

    public override int* OpenLeaf(int sequence, int leaf, int slot) => inner.OpenLeaf(sequence, leaf, slot);

    public override void CloseLeaf(int sequence, int leaf) => inner.CloseLeaf(sequence, leaf);

    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag) => inner.WriteEntry(sequence, row, entry, slot, tag);

    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => inner.CreateBatch(maxSequences, maxTokens);

    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default) => inner.Transcode(moves, kept);

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => inner.Materialize(reads, keys, values);

    public override void ClearScores(int sequence) => inner.ClearScores(sequence);

    public override void Read(long word, Span<int> target) => inner.Read(word, target);

    public override void Load(long word, ReadOnlySpan<int> source)
    {
        // If a slab changes the size of its pages, freed pages may lie across the edges of the new ones.
        long end = word + source.Length;
        foreach ((long first, int words) in _freed.Where(f => f.Key < end && word < f.Key + f.Value).ToArray())
        {
            _poison?.Heal(first, words);
            _freed.Remove(first);
        }

        inner.Load(word, source);
        if (source.IndexOfAnyExcept(PageScrub.FreedWord) < 0)
        {
            _freed[word] = source.Length;
            _poison?.Mark(word, source.Length);
        }
    }

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales) => inner.SetKeyScales(table, scales);

    /// <inheritdoc/>
    public override bool SumsQueries { get => inner.SumsQueries; set => inner.SumsQueries = value; }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares) => inner.ReadQuerySums(squares);

    public override void Synchronize() => inner.Synchronize();

    public override void Dispose() => inner.Dispose();
}
