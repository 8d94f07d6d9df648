using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The purpose of an allocation.</summary>
public enum AllocationKind
{
    /// <summary>The arena: tables and page slots.</summary>
    Arena,

    /// <summary>Working memory of launches.</summary>
    Scratch,

    /// <summary>A page slot taken or given back inside the arena.</summary>
    Slot,

    /// <summary>Host-side bookkeeping.</summary>
    Bookkeeping,
}

/// <summary>Told of every allocation (positive bytes) and release (negative bytes) as it happens.</summary>
public delegate void AllocationObserver(AllocationKind kind, long bytes);

/// <summary>One page to be written from another: decoded, and encoded anew where the formats differ.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="SourceSlot">Slot read.</param>
/// <param name="SourceClass">Its page class.</param>
/// <param name="TargetSlot">Slot written.</param>
/// <param name="TargetClass">Its page class.</param>
/// <param name="Tokens">Tokens that the page holds, from its first.</param>
/// <param name="ScoreWord">
/// First word in the arena of the page's scores, into which the mean square norms of the source's keys and values are written, also of a page that is
/// kept; they are no finite numbers where its elements are none. The default value is 0: not written.
/// </param>
/// <param name="KeyRow">
/// The row whose key scales the page's keys have in T formats, in both slots: <see cref="KernelTier.KeyRow"/>. Other formats have none. The default value is 0.
/// </param>
public readonly record struct PageMove(int SourceSlot, int SourceClass, int TargetSlot, int TargetClass, int Tokens, long ScoreWord = 0, int KeyRow = 0);

/// <summary>One page to be decoded for <see cref="KernelTier.Materialize"/>.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Slot">Slot read.</param>
/// <param name="PageClass">Its page class.</param>
/// <param name="Tokens">Tokens to read, from the page's first.</param>
/// <param name="TargetVector">Where its first vector goes, in vectors from the start of the target.</param>
/// <param name="TargetStride">Vectors from one token to the next in the target.</param>
/// <param name="KeyRow">The row whose key scales the page's keys have, as in <see cref="PageMove"/>. The default value is 0.</param>
public readonly record struct PageRead(int Slot, int PageClass, int Tokens, int TargetVector, int TargetStride, int KeyRow = 0);

/// <summary>
/// The memory of one cache on one device, and the kernels that work on it. Knows bytes, shapes and tables; no sequences' lives,
/// no policy.
/// </summary>
/// <remarks>
/// Thread safety: batches of different sequences may be used by different threads at once; rows of <see cref="Tables"/> belong to the thread that owns the
/// sequence.
/// </remarks>
public abstract unsafe class KernelTier : IDisposable
{
    /// <summary>Checks and sets the properties that every tier has.</summary>
    protected KernelTier(KernelShape shape, long arenaBytes)
    {
        ArgumentNullException.ThrowIfNull(shape);
        Shape = shape;
        Map = new TableMap(shape);
        if (arenaBytes < Map.Bytes || arenaBytes / PageLayout.UnitBytes > int.MaxValue)
        {
            throw new ArgumentOutOfRangeException(
                nameof(arenaBytes), arenaBytes, $"expected {Map.Bytes} bytes of tables at least, {(long)int.MaxValue * PageLayout.UnitBytes} at most");
        }

        ArenaBytes = arenaBytes;
    }

    /// <summary>Geometry, formats and table sizes.</summary>
    public KernelShape Shape { get; }

    /// <summary>Where the tables lie.</summary>
    public TableMap Map { get; }

    /// <summary>Size of the arena: tables, then page slots.</summary>
    public long ArenaBytes { get; }

    /// <summary>The tier's name, as reports print it: "simd-512", "portable (cuda)".</summary>
    public abstract string Name { get; }

    /// <summary>The accelerator that it works on; null if it works in host memory.</summary>
    public virtual Accelerator? Accelerator => null;

    /// <summary>True if steps can be captured in graphs, as on CUDA.</summary>
    public virtual bool HasGraphs => false;

    /// <summary>
    /// The host's copy of the root of the tables, <see cref="TableMap.TableWords"/> words: counts and directory. Written through <see cref="WriteCount"/>,
    /// <see cref="OpenLeaf"/> and <see cref="CloseLeaf"/>.
    /// </summary>
    public abstract int* Tables { get; }

    /// <summary>Bytes of host memory that an open leaf takes beside its slot, told to the observer as <see cref="AllocationKind.Bookkeeping"/>; 0 where slots lie in host memory.</summary>
    public abstract long LeafHostBytes { get; }

    /// <summary>Writes the number of live entries of a row; the device sees it before the next launch reads it.</summary>
    public abstract void WriteCount(int sequence, int row, int count);

    /// <summary>Lists a leaf in the directory. What its words hold is unspecified until they are written.</summary>
    /// <param name="sequence">Sequence slot.</param>
    /// <param name="leaf">Its leaf, not open yet.</param>
    /// <param name="slot">Where it lies: <see cref="TableMap.LeafUnits"/> units that are the caller's, until <see cref="CloseLeaf"/>.</param>
    /// <returns>The host's copy of its slots and tags, <see cref="TableMap.LeafTableWords"/> words, valid until <see cref="CloseLeaf"/>. Written through <see cref="WriteEntry"/>.</returns>
    public abstract int* OpenLeaf(int sequence, int leaf, int slot);

    /// <summary>Takes a leaf out of the directory. No launch that follows reads it; its slot may be used for other things as soon as this returns.</summary>
    public abstract void CloseLeaf(int sequence, int leaf);

    /// <summary>Writes an entry of a row whose leaf is open; the device sees it before the next launch reads it.</summary>
    public abstract void WriteEntry(int sequence, int row, int entry, int slot, int tag);

    /// <summary>First word in the arena of an open leaf.</summary>
    /// <exception cref="InvalidOperationException">The leaf is not open.</exception>
    public long LeafWord(int sequence, int leaf) => (long)LeafSlot(sequence, leaf) * PageLayout.UnitWords;

    /// <summary>First word in the arena of the scores of an open leaf: of all rows, <see cref="TableMap.LeafScoreWords"/> words.</summary>
    public long LeafScoresWord(int sequence, int leaf) => LeafWord(sequence, leaf) + Map.LeafScores;

    /// <summary>First word in the arena of a page's scores; its leaf is open.</summary>
    public long ScoreWord(int sequence, int row, int pageIndex) => LeafWord(sequence, Map.LeafOf(pageIndex)) + Map.ScoresInLeaf(row, pageIndex);

    /// <summary>First word in the arena of a page's statistics; its leaf is open.</summary>
    public long StatsWord(int sequence, int row, int pageIndex) => LeafWord(sequence, Map.LeafOf(pageIndex)) + Map.StatsInLeaf(row, pageIndex);

    /// <summary>Tables of key scales that a tier holds at once. A sequence's T pages are all under one of them.</summary>
    public const int KeyTables = 2;

    /// <summary>Names a row under a table of key scales.</summary>
    /// <param name="table">The table, below <see cref="KeyTables"/>.</param>
    /// <param name="row">layer * KV heads + head.</param>
    public int KeyRow(int table, int row) => (table * Shape.Geometry.Layers * Shape.Geometry.KvHeads) + row;

    /// <summary>
    /// Sets one of the tables of key scales, for all work that follows. In a new tier all exponents are 0. The caller sees to it that no page under the table's former scales is left.
    /// Does nothing where no class has keys in a T format.
    /// </summary>
    /// <param name="table">The table, below <see cref="KeyTables"/>.</param>
    /// <param name="scales">Scales of the tier's geometry.</param>
    /// <exception cref="ArgumentException">There is no such table, or the scales are of another geometry.</exception>
    public abstract void SetKeyScales(int table, KvKeyScales scales);

    /// <summary>
    /// True to add up the squares of the elements of all queries that batches attend with, from zero on. The default value is false.
    /// </summary>
    /// <exception cref="InvalidOperationException">It is set to true, and no class has keys in a T format.</exception>
    public abstract bool SumsQueries { get; set; }

    /// <summary>
    /// Reads what was added up since <see cref="SumsQueries"/> was set, in the order of the tier's work; waits for the device.
    /// </summary>
    /// <param name="squares">
    /// <c>[layers][KV heads][key width]</c>: of all query heads of the KV head together, not scaled. Zeros where a layer was not attended to; sums beyond binary32 are its largest number.
    /// </param>
    /// <exception cref="ArgumentException">The span has another length.</exception>
    /// <exception cref="InvalidOperationException">No class has keys in a T format.</exception>
    public abstract void ReadQuerySums(Span<float> squares);

    /// <summary>Makes the working memory of one concurrent step; reused from step to step.</summary>
    /// <param name="maxSequences">Sequences in one launch, at most.</param>
    /// <param name="maxTokens">Tokens in one launch over all sequences, at most.</param>
    public abstract KernelBatch CreateBatch(int maxSequences, int maxTokens);

    /// <summary>
    /// Writes pages from pages. Sources and targets are disjoint, or equal where both classes have one layout: such a page is sealed
    /// where it lies. The target is unspecified beyond a move's tokens. A decoded element beyond the target's largest number
    /// (a rounding error's width, since append refuses more) becomes that number. A target that has a digest gets that of the source's keys, in the basis in which the
    /// target's keys lie (a T page's is scaled, rotated, and in units of r); pages of one layout that are sealed already keep theirs, bit for bit.
    /// </summary>
    /// <param name="moves">The pages.</param>
    /// <param name="kept">
    /// Set for each move whose target cannot hold the page (an element that is no finite number, a scale beyond binary16): its target
    /// is unspecified, its source stays as it is. Pages of one layout in different slots are always copied.
    /// Asking waits for the device. The default value is empty: not asked.
    /// </param>
    public abstract void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default);

    /// <summary>
    /// Decodes pages, back in the plain basis: keys as vectors of the key width, values of the value width. A target without room for any element is left out. Targets on the device
    /// are written by the device, in the order of the tier's work: nothing waits for them. Targets in host memory are written when the call returns.
    /// </summary>
    /// <exception cref="ArgumentException">A target is too short, or lies in memory of another device.</exception>
    /// <exception cref="NotSupportedException">A target lies on a device, and the tier works in host memory.</exception>
    public abstract void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values);

    /// <summary>
    /// Sets the scores of all open leaves of a sequence slot to 0. Appending a page's first token does so for that page; this is for a sequence
    /// that begins with pages which it did not append.
    /// </summary>
    public abstract void ClearScores(int sequence);

    /// <summary>Copies words of the arena to the host.</summary>
    public abstract void Read(long word, Span<int> target);

    /// <summary>Copies words from the host into the arena.</summary>
    public abstract void Load(long word, ReadOnlySpan<int> source);

    /// <summary>Copies whole pages to host memory and back.</summary>
    public virtual PageTransfers Transfers => field ??= new PageTransfers(this);

    /// <summary>Refuses a stream that batches cannot run on.</summary>
    /// <exception cref="ArgumentException">It is of another accelerator or context.</exception>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    /// <exception cref="NotSupportedException">The tier works in host memory, and has no streams.</exception>
    public virtual void ThrowIfNotMine(KvStream stream)
    {
        if (!stream.IsDefault)
        {
            throw new NotSupportedException("a stream, while the cache lies in host memory, where there are none: leave it out");
        }
    }

    /// <summary>Waits for everything that was enqueued.</summary>
    public abstract void Synchronize();

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>The slot of an open leaf.</summary>
    /// <exception cref="InvalidOperationException">The leaf is not open.</exception>
    protected int LeafSlot(int sequence, int leaf)
    {
        int slot = LeafSlotOrNone(sequence, leaf);
        return slot != 0 ? slot : throw new InvalidOperationException($"expected leaf {leaf} of sequence slot {sequence} to be open, got one that is closed");
    }

    /// <summary>Checks what <see cref="SetKeyScales"/> is given.</summary>
    /// <exception cref="ArgumentException">There is no such table, or the scales are of another geometry.</exception>
    protected void ThrowIfNotMine(int table, KvKeyScales scales)
    {
        ArgumentNullException.ThrowIfNull(scales);
        ArgumentOutOfRangeException.ThrowIfNegative(table);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(table, KeyTables);
        scales.ThrowIfNotFor(Shape.Geometry, nameof(scales));
    }

    /// <summary>Checks that queries can be added up, and that a span has room for the sums.</summary>
    /// <exception cref="InvalidOperationException">No class has keys in a T format.</exception>
    /// <exception cref="ArgumentException">The span has another length.</exception>
    protected void ThrowIfNoSums(int length)
    {
        int expected = Shape.Geometry.Layers * Shape.Geometry.KvHeads * Shape.Geometry.KeyWidth;
        if (!Shape.ScalesKeys)
        {
            throw new InvalidOperationException("expected a page class with keys in t4, t3 or t2, for which queries are added up, got none");
        }

        if (length != expected)
        {
            throw new ArgumentException($"expected room for {expected} sums, one for each layer, KV head and element of a key, got {length}", nameof(length));
        }
    }

    /// <summary>Checks that a leaf may be opened at a slot.</summary>
    /// <exception cref="InvalidOperationException">The leaf is open already.</exception>
    protected void ThrowIfNotOpenable(int sequence, int leaf, int slot)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(slot, Map.FirstPageUnit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(slot, (ArenaBytes / PageLayout.UnitBytes) - Map.LeafUnits);
        if (LeafSlotOrNone(sequence, leaf) != 0)
        {
            throw new InvalidOperationException($"expected leaf {leaf} of sequence slot {sequence} to be closed, got one that is open");
        }
    }

    /// <summary>Checks that a target has room for what the reads write to it; one without any room is left out.</summary>
    /// <exception cref="ArgumentException">It has not.</exception>
    protected static void ThrowIfNoRoom(ReadOnlySpan<PageRead> reads, long elements, int width, string name)
    {
        foreach (PageRead read in elements > 0 ? reads : [])
        {
            long last = Math.Max(read.TargetVector, read.TargetVector + ((long)(read.Tokens - 1) * read.TargetStride));
            if ((last + 1) * width > elements)
            {
                throw new ArgumentException($"{name}: expected room for vector {last} of width {width}, got {elements} elements", name);
            }
        }
    }

    // A leaf that does not exist would be another sequence's, or no word of the directory at all.
    private int LeafSlotOrNone(int sequence, int leaf)
    {
        if ((uint)sequence >= (uint)Shape.Sequences || (uint)leaf >= (uint)Map.Leaves)
        {
            throw new ArgumentOutOfRangeException(nameof(leaf), $"expected a sequence slot below {Shape.Sequences} and a leaf below {Map.Leaves}, got {sequence} and {leaf}");
        }

        return Tables[Map.DirectoryWord(sequence, leaf)];
    }
}
