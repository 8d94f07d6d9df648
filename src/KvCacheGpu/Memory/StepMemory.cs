using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A page that a step seals when it commits.</summary>
internal struct SealedPage
{
    /// <summary>Place of its sequence in the step.</summary>
    public int Sequence;

    /// <summary>Row of the sequence.</summary>
    public int Row;

    /// <summary>Page index.</summary>
    public int Page;

    /// <summary>The open page.</summary>
    public int Source;

    /// <summary>Where the sealed page is written: a slot that the step took, or the source itself if the layer seals in place.</summary>
    public int Target;

    /// <summary>First of the page's words among the scores that receives its squares; 0: none.</summary>
    public long ScoreWord;

    /// <summary>The row under its table of key scales.</summary>
    public int KeyRow;

    /// <summary>Class of the sealed page.</summary>
    public byte Class;

    /// <summary>True if there is nothing to write: a fork that shares the page has sealed it already.</summary>
    public bool IsSettled;

    /// <summary>The outcome: sealed at the target, or kept in full precision where it lies, since its class cannot hold it.</summary>
    public PageOutcome Outcome;
}

/// <summary>A last page of a row that others see or that is sealed: the step writes on in a copy of it.</summary>
internal struct ReplacedTail
{
    /// <summary>Place of its sequence in the step.</summary>
    public int Sequence;

    /// <summary>Row of the sequence.</summary>
    public int Row;

    /// <summary>The page that the row listed.</summary>
    public int Source;

    /// <summary>Its class.</summary>
    public int Class;

    /// <summary>The copy, in full precision.</summary>
    public int Copy;

    /// <summary>The row under its table of key scales.</summary>
    public int KeyRow;

    /// <summary>Tokens that are copied.</summary>
    public int Tokens;
}

/// <summary>The outcome for a page that was to be written in another class.</summary>
internal enum PageOutcome : byte
{
    /// <summary>It lies in the target.</summary>
    Written,

    /// <summary>The class cannot hold its numbers: it stays as it is, and the target holds nothing of use.</summary>
    Kept,
}

/// <summary>The working memory of one step: the tier's batch, the slots taken, and lists of the pages to write. Reused from step to step.</summary>
internal sealed unsafe class StepMemory : IDisposable
{
    private readonly NativeInts _memory;
    private NativeList<SealedPage> _seals;
    private NativeList<ReplacedTail> _tails;
    private SlotCounts _next;
    private int _taken;

    /// <exception cref="OutOfMemoryException">The device has no room for the batch.</exception>
    public StepMemory(KernelTier tier, int maxSequences, int maxTokens, MemoryLedger ledger)
    {
        int mostSlots = MostSeals(tier.Shape, maxSequences, maxTokens) + MostOpened(tier.Shape, maxSequences, maxTokens);
        _memory = new NativeInts(BookkeepingBytes(tier.Shape, maxSequences, maxTokens) / sizeof(int), ledger);
        int* lists = _memory.Pointer + mostSlots;
        _seals = new NativeList<SealedPage>(lists);
        _tails = new NativeList<ReplacedTail>(lists + (MostSeals(tier.Shape, maxSequences, maxTokens) * WordsOf<SealedPage>()));
        try
        {
            Batch = tier.CreateBatch(maxSequences, maxTokens);
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    public KernelBatch Batch { get; }

    /// <summary>Slots that the step took: for pages that are written, and for those that Commit seals.</summary>
    public Span<int> Taken => _memory.Span[.._taken];

    /// <summary>The pages that Commit seals.</summary>
    public Span<SealedPage> Seals => _seals.Items;

    /// <summary>The last pages that were replaced by copies.</summary>
    public Span<ReplacedTail> Tails => _tails.Items;

    public static long BookkeepingBytes(KernelShape shape, int maxSequences, int maxTokens)
    {
        long seals = MostSeals(shape, maxSequences, maxTokens);
        long tails = (long)maxSequences * shape.Geometry.Layers * shape.Geometry.KvHeads;
        return (seals + MostOpened(shape, maxSequences, maxTokens) + (seals * WordsOf<SealedPage>()) + (tails * WordsOf<ReplacedTail>())) * sizeof(int);
    }

    /// <summary>Begins with the step's slots.</summary>
    /// <param name="slots">How many of each kind.</param>
    /// <returns>Receives them, kind after kind; <see cref="NextSlot"/> hands them out.</returns>
    public Span<int> Begin(in SlotCounts slots)
    {
        Clear();
        (_next, _taken) = (slots.Starts(), slots.Total);
        return Taken;
    }

    /// <summary>The next of the slots taken for a page class, or for leaves.</summary>
    public int NextSlot(int kind) => _memory.Pointer[_next[kind]++];

    public void Add(in SealedPage page) => _seals.Add(page);

    public void Add(in ReplacedTail tail) => _tails.Add(tail);

    public void Clear()
    {
        (_next, _taken) = (default, 0);
        _seals.Clear();
        _tails.Clear();
    }

    public void Dispose()
    {
        Batch.Dispose();
        _memory.Dispose();
    }

    // A sequence seals as many pages as its tokens fill, and one more: however it came to be, all that the rule has sealed at its length are sealed
    // between steps (PageTable).
    private static int MostSeals(KernelShape shape, int maxSequences, int maxTokens) =>
        checked(Rows(shape) * ((maxTokens / shape.Geometry.PageTokens) + maxSequences));

    // A sequence may need a page more than its tokens fill, and a copy of its last page; and no more leaves than pages of one row.
    private static int MostOpened(KernelShape shape, int maxSequences, int maxTokens) =>
        checked((Rows(shape) + 1) * ((maxTokens / shape.Geometry.PageTokens) + (2 * maxSequences)));

    private static int Rows(KernelShape shape) => shape.Geometry.Layers * shape.Geometry.KvHeads;

    private static int WordsOf<T>()
        where T : unmanaged => Unsafe.SizeOf<T>() / sizeof(int);
}
