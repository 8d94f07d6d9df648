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
///   (padding to 64 bytes, then page slots)
///
/// Entries ascend by page index. Pages at the end of a row that may still be written are contiguous in page index.
/// A page's attention mass is sum * exp(largest - lse).
/// </code>
/// </remarks>
public sealed class TableMap
{
    /// <summary>Largest page index that a tag holds.</summary>
    public const int MaxPageIndex = (1 << ClassShift) - 1;

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
            int words = LogSumExp + (Rows * g.GroupSize);
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

    /// <summary>First word of a row's entry in the statistics.</summary>
    public int StatsWord(int row, int entry) => Stats + (((row * _shape.TableCapacity) + entry) * _shape.Geometry.GroupSize * 2);

    /// <summary>Word of a row's log-sum-exp for one query head of its group.</summary>
    public int LogSumExpWord(int row, int member) => LogSumExp + (row * _shape.Geometry.GroupSize) + member;

    /// <summary>Packs a tag.</summary>
    public static int Tag(int pageClass, int pageIndex) => (pageClass << ClassShift) | pageIndex;

    /// <summary>The class in a tag.</summary>
    public static int ClassOf(int tag) => tag >>> ClassShift;

    /// <summary>The page index in a tag.</summary>
    public static int PageIndexOf(int tag) => tag & MaxPageIndex;
}
