namespace KvCacheGpu.Kernels;

/// <summary>
/// Where the page tables lie: a root of fixed size at the front of the arena, and leaves that grow with use, each in a slot as a page is.
/// </summary>
/// <remarks>
/// <code>
/// A row is a (layer, KV head); R = rows of a sequence; G = query heads per KV head. All in 32-bit words:
///
/// root, before the first page slot; its address never changes, and everything else is reached through it:
///   counts     int32[sequence slots][R]         live entries of the row
///   directory  int32[sequence slots][leaves]    slot of each of the sequence's leaves; 0: there is none
///   lse        f32[sequence slots][R][G]        of the last query token: log-sum-exp over all pages            (*)
///   (padding to 64 bytes)
///
/// leaf: a run of L entries and of L page indexes of one sequence, over all its rows; L is a power of two
///   slots      int32[R][L]                      page slot, in units of 64 bytes from the start of the arena
///   tags       int32[R][L]                      class in the top 8 bits, page index (first position / P) in the low 24
///   stats      f32[R][L][G][2]                  of the last query token: the page's largest logit and its sum of exp(logit - largest)   (*)
///   scores     word[R][L][8]                    by which a policy ranks pages: see the constants               (*)
///
/// (*) only where the shape keeps statistics: <see cref="KernelShape.HasStatistics"/>
/// </code>
/// Entries ascend by page index. Pages at the end of a row that may still be written are contiguous in page index.
/// Slots and tags are addressed by entry; stats and scores by page index, so that nothing moves when pages leave a row: entry e lies in leaf e / L at
/// place e % L, and so does page index e. A page's attention mass is sum * exp(largest - lse).
/// Thread safety: it never changes.
/// </remarks>
public sealed class TableMap
{
    /// <summary>Largest page index that a tag holds.</summary>
    public const int MaxPageIndex = (1 << ClassShift) - 1;

    /// <summary>Words of a page's scores. All are 0 from the append of its first token on.</summary>
    public const int ScoreWords = 8;

    /// <summary>f32: attention mass with decay, a step's being that of its last query, the mean over the query heads of the group.</summary>
    public const int ScoreMass = 0;

    /// <summary>f32: the largest mass of a single token, with decay.</summary>
    public const int ScorePeak = 1;

    /// <summary>f32: the mass of the last query alone.</summary>
    public const int ScoreLast = 2;

    /// <summary>f32: the summed mass of the queries that were observed.</summary>
    public const int ScoreWindow = 3;

    /// <summary>int32: the step in which the mass was last at or above the page's share of the tokens.</summary>
    public const int ScoreLastUsed = 4;

    /// <summary>int32: how many steps that was so.</summary>
    public const int ScoreUses = 5;

    /// <summary>f32: mean square norm of the page's keys, once sealed.</summary>
    public const int ScoreKeySquare = 6;

    /// <summary>f32: mean square norm of the page's values, once sealed.</summary>
    public const int ScoreValueSquare = 7;

    private const int ClassShift = 24;

    // A sequence of one page has a whole leaf: it takes at most this part of the bytes of a page in every row. Large leaves are read and cleared in
    // few copies, and a launch finds the entries of a run of pages side by side.
    private const int PartOfPage = 16;
    private const int FewestLeafPages = 4;
    private const int MostLeafPages = 64;

    private readonly KernelShape _shape;
    private readonly int _tags;
    private readonly int _stats;
    private readonly int _scores;

    /// <summary>Lays out the tables of a tier.</summary>
    /// <exception cref="OverflowException">The root exceeds 2^31 words.</exception>
    public TableMap(KernelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        _shape = shape;
        KvGeometry g = shape.Geometry;
        Rows = checked(g.Layers * g.KvHeads);
        int pageWords = shape.HasStatistics ? 2 + (2 * g.GroupSize) + ScoreWords : 2;
        LeafPages = MostLeafPages;
        long most = shape.Classes.Max(layout => layout.Bytes) / sizeof(int);
        while (LeafPages > FewestLeafPages && ((long)LeafPages * pageWords * PartOfPage > most || LeafPages / 2 >= shape.TableCapacity))
        {
            LeafPages /= 2;
        }

        LeafShift = int.Log2(LeafPages);
        checked
        {
            Leaves = (shape.TableCapacity + LeafPages - 1) / LeafPages;
            Directory = shape.Sequences * Rows;
            TableWords = Directory + (shape.Sequences * Leaves);
            LogSumExp = TableWords;
            int words = LogSumExp + (shape.HasStatistics ? shape.Sequences * Rows * g.GroupSize : 0);
            FirstPageUnit = (words + PageLayout.UnitWords - 1) / PageLayout.UnitWords;
            _tags = Rows * LeafPages;
            _stats = 2 * _tags;
            _scores = _stats + (Rows * LeafPages * g.GroupSize * 2);
            LeafUnits = ((Rows * LeafPages * pageWords) + PageLayout.UnitWords - 1) / PageLayout.UnitWords;
        }
    }

    /// <summary>Rows of one sequence: layers times KV heads.</summary>
    public int Rows { get; }

    /// <summary>Entries, and page indexes, of one leaf: a power of two.</summary>
    public int LeafPages { get; }

    /// <summary>The binary logarithm of <see cref="LeafPages"/>.</summary>
    public int LeafShift { get; }

    /// <summary>Leaves that one sequence has at most.</summary>
    public int Leaves { get; }

    /// <summary>Units of one leaf.</summary>
    public int LeafUnits { get; }

    /// <summary>Bytes of one leaf.</summary>
    public long LeafBytes => (long)LeafUnits * PageLayout.UnitBytes;

    /// <summary>First word of the directory; the counts start at word 0.</summary>
    public int Directory { get; }

    /// <summary>Words of the root that the host writes: counts and directory.</summary>
    public int TableWords { get; }

    /// <summary>Words of a leaf that the host writes: slots and tags.</summary>
    public int LeafTableWords => _stats;

    /// <summary>First word of the log-sum-exps.</summary>
    public int LogSumExp { get; }

    /// <summary>First unit that slots may take.</summary>
    public int FirstPageUnit { get; }

    /// <summary>Bytes of the root.</summary>
    public long Bytes => (long)FirstPageUnit * PageLayout.UnitBytes;

    /// <summary>First word of the tags in a leaf; the slots start at word 0.</summary>
    public int LeafTags => _tags;

    /// <summary>First word of the statistics in a leaf.</summary>
    public int LeafStats => _stats;

    /// <summary>First word of the scores in a leaf.</summary>
    public int LeafScores => _scores;

    /// <summary>Words of the scores in a leaf: of all rows, <c>[R][L][8]</c>; 0 where the shape keeps no statistics.</summary>
    public int LeafScoreWords => _shape.HasStatistics ? Rows * LeafPages * ScoreWords : 0;

    /// <summary>The row of a (layer, KV head).</summary>
    public int Row(int layer, int head) => (layer * _shape.Geometry.KvHeads) + head;

    /// <summary>Word of a row's count.</summary>
    public int CountWord(int sequence, int row) => (sequence * Rows) + row;

    /// <summary>Word of a leaf's place in the directory.</summary>
    public int DirectoryWord(int sequence, int leaf) => Directory + (sequence * Leaves) + leaf;

    /// <summary>Word of a row's log-sum-exp for one query head of its group.</summary>
    public int LogSumExpWord(int sequence, int row, int member) => LogSumExp + (((sequence * Rows) + row) * _shape.Geometry.GroupSize) + member;

    /// <summary>The leaf that holds an entry, or a page index.</summary>
    public int LeafOf(int index) => index >> LeafShift;

    /// <summary>Leaves that so many entries, or page indexes, take.</summary>
    public int LeavesFor(int pages) => (pages + LeafPages - 1) >> LeafShift;

    /// <summary>Word in its leaf of an entry's slot; its tag is <see cref="LeafTags"/> words behind.</summary>
    public int SlotInLeaf(int row, int entry) => (row << LeafShift) + (entry & (LeafPages - 1));

    /// <summary>First word in its leaf of a page's statistics, by page index.</summary>
    public int StatsInLeaf(int row, int pageIndex) => _stats + (SlotInLeaf(row, pageIndex) * _shape.Geometry.GroupSize * 2);

    /// <summary>First word in its leaf of a page's scores, by page index.</summary>
    public int ScoresInLeaf(int row, int pageIndex) => _scores + (SlotInLeaf(row, pageIndex) * ScoreWords);

    /// <summary>Packs a tag.</summary>
    public static int Tag(int pageClass, int pageIndex) => (pageClass << ClassShift) | pageIndex;

    /// <summary>The class in a tag.</summary>
    public static int ClassOf(int tag) => tag >>> ClassShift;

    /// <summary>The page index in a tag.</summary>
    public static int PageIndexOf(int tag) => tag & MaxPageIndex;
}
