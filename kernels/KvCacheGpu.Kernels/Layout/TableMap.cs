namespace KvCacheGpu.Kernels;

/// <summary>
/// Where the page tables lie: native struct-of-arrays at the front of the arena, before the first page slot.
/// </summary>
/// <remarks>
/// <code>
/// One row per (sequence slot, layer, KV head); C = entries per row; G = query heads per KV head. All in 32-bit words:
///
///   counts  int32[rows]            live entries of the row
///   slots   int32[rows][C]         page slot, in units of 64 bytes from the start of the arena
///   tags    int32[rows][C]         class in the top 8 bits, page index (first position / P) in the low 24
///   stats   f32[rows][C][G][2]     of the last query token: the page's largest logit and its sum of exp(logit - largest)
///   lse     f32[rows][G]           of the last query token: log-sum-exp over all pages
///   scores  word[rows][C][8]       by which a policy ranks pages: see the constants
///   (padding to 64 bytes, then page slots)
///
/// Entries ascend by page index. Pages at the end of a row that may still be written are contiguous in page index.
/// Slots and tags are addressed by entry; stats and scores by page index, so that nothing moves when pages leave a row.
/// A page's attention mass is sum * exp(largest - lse).
/// </code>
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

    private readonly KernelShape _shape;

    /// <summary>Lays out the tables of a tier.</summary>
    /// <exception cref="OverflowException">The tables exceed 2^31 words.</exception>
    public TableMap(KernelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        _shape = shape;
        KvGeometry g = shape.Geometry;
        checked
        {
            Rows = shape.Sequences * g.Layers * g.KvHeads;
            Slots = Rows;
            Tags = Slots + (Rows * shape.TableCapacity);
            TableWords = Tags + (Rows * shape.TableCapacity);
            Stats = TableWords;
            LogSumExp = Stats + (Rows * shape.TableCapacity * g.GroupSize * 2);
            Scores = LogSumExp + (Rows * g.GroupSize);
            int words = Scores + (Rows * shape.TableCapacity * ScoreWords);
            FirstPageUnit = (words + PageLayout.UnitWords - 1) / PageLayout.UnitWords;
        }
    }

    /// <summary>Rows of the tables.</summary>
    public int Rows { get; }

    /// <summary>First word of the slots; the counts start at word 0.</summary>
    public int Slots { get; }

    /// <summary>First word of the tags.</summary>
    public int Tags { get; }

    /// <summary>Words that the host writes: counts, slots and tags.</summary>
    public int TableWords { get; }

    /// <summary>First word of the page statistics.</summary>
    public int Stats { get; }

    /// <summary>First word of the log-sum-exps.</summary>
    public int LogSumExp { get; }

    /// <summary>First word of the scores.</summary>
    public int Scores { get; }

    /// <summary>First unit that page slots may take.</summary>
    public int FirstPageUnit { get; }

    /// <summary>Bytes of all tables.</summary>
    public long Bytes => (long)FirstPageUnit * PageLayout.UnitBytes;

    /// <summary>The row of a (sequence slot, layer, KV head).</summary>
    public int Row(int sequence, int layer, int head) =>
        (((sequence * _shape.Geometry.Layers) + layer) * _shape.Geometry.KvHeads) + head;

    /// <summary>Word of a row's entry in the slots.</summary>
    public int SlotWord(int row, int entry) => Slots + (row * _shape.TableCapacity) + entry;

    /// <summary>Word of a row's entry in the tags.</summary>
    public int TagWord(int row, int entry) => Tags + (row * _shape.TableCapacity) + entry;

    /// <summary>First word of a page's statistics.</summary>
    public int StatsWord(int row, int pageIndex) => Stats + (((row * _shape.TableCapacity) + pageIndex) * _shape.Geometry.GroupSize * 2);

    /// <summary>First word of a page's scores.</summary>
    public int ScoreWord(int row, int pageIndex) => Scores + (((row * _shape.TableCapacity) + pageIndex) * ScoreWords);

    /// <summary>Words of all scores of a sequence slot: they lie together, from its first row's first page on.</summary>
    public int ScoreWordsOfSequence => _shape.Geometry.Layers * _shape.Geometry.KvHeads * _shape.TableCapacity * ScoreWords;

    /// <summary>Word of a row's log-sum-exp for one query head of its group.</summary>
    public int LogSumExpWord(int row, int member) => LogSumExp + (row * _shape.Geometry.GroupSize) + member;

    /// <summary>Packs a tag.</summary>
    public static int Tag(int pageClass, int pageIndex) => (pageClass << ClassShift) | pageIndex;

    /// <summary>The class in a tag.</summary>
    public static int ClassOf(int tag) => tag >>> ClassShift;

    /// <summary>The page index in a tag.</summary>
    public static int PageIndexOf(int tag) => tag & MaxPageIndex;
}
