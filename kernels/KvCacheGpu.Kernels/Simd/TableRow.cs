namespace KvCacheGpu.Kernels;

/// <summary>Where a page of a row lies, and its tag.</summary>
/// <param name="Slot">Slot of the page.</param>
/// <param name="Tag">Class and page index, as <see cref="TableMap.Tag"/> packs them.</param>
internal readonly record struct TableEntry(int Slot, int Tag)
{
    public int PageIndex => TableMap.PageIndexOf(Tag);
}

/// <summary>One row of a sequence in the tables of a tier in host memory. Everything but the count is found through the directory.</summary>
internal readonly unsafe struct TableRow
{
    private readonly int* _arena;
    private readonly int* _directory;
    private readonly int _shift;
    private readonly int _row;
    private readonly int _tags;
    private readonly int _stats;
    private readonly int _scores;
    private readonly int _statWords;

    public TableRow(SimdTier tier, int sequence, int row)
    {
        TableMap map = tier.Map;
        _arena = tier.Tables;
        _directory = _arena + map.DirectoryWord(sequence, 0);
        (_shift, _row, _statWords) = (map.LeafShift, row << map.LeafShift, 2 * tier.Shape.Geometry.GroupSize);
        (_tags, _stats, _scores) = (map.LeafTags, map.LeafStats, map.LeafScores);
        Count = _arena[map.CountWord(sequence, row)];
    }

    /// <summary>Live entries.</summary>
    public int Count { get; }

    /// <summary>An entry. Readers that walk a row look at each one once, and keep it.</summary>
    public TableEntry this[int entry]
    {
        get
        {
            int* at = Leaf(entry) + InLeaf(entry);
            return new TableEntry(*at, at[_tags]);
        }
    }

    /// <summary>The page index of an entry.</summary>
    public int PageIndexOf(int entry) => TableMap.PageIndexOf(Leaf(entry)[InLeaf(entry) + _tags]);

    /// <summary>The statistics of a page, by its page index: largest logit and sum of each query head of the group.</summary>
    public float* Stats(int pageIndex) => (float*)(Leaf(pageIndex) + _stats + (InLeaf(pageIndex) * _statWords));

    /// <summary>The scores of a page, by its page index.</summary>
    public int* Scores(int pageIndex) => Leaf(pageIndex) + _scores + (InLeaf(pageIndex) * TableMap.ScoreWords);

    private int* Leaf(int index) => _arena + ((long)_directory[index >> _shift] * PageLayout.UnitWords);

    private int InLeaf(int index) => _row + (index & ((1 << _shift) - 1));
}
