using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// One sequence's part in a step: the pages that it needs, how its rows grow, how they return to what they were, which pages are sealed. Callers are
/// inside of the pool's gate where not said otherwise.
/// </summary>
internal struct StepPages
{
    private PageTable _table;
    private int _firstOpen;
    private bool _isBound;

    /// <summary>Tokens that the step adds.</summary>
    public int Tokens { get; private set; }

    /// <summary>What a step of so many tokens needs: pages, leaves, and bookkeeping.</summary>
    public static Want NeedFor(CacheState cache, PageTable table, int tokens)
    {
        KvGeometry geometry = cache.Geometry;
        int pages = (table.PagesFor(table.Length + tokens) - table.PagesFor(table.Length)) * table.Rows;
        int seals = Math.Max(0, cache.Classes.Seals.FirstOpen(table.Length + tokens) - FirstOpenOf(table, geometry.PageTokens));
        int tails = 0;
        for (int row = 0; row < table.Rows; row++)
        {
            tails += MustReplaceTail(cache, table, row) ? 1 : 0;
        }

        SlotCounts need = SlotCounts.Of(KernelShape.Open, pages + tails);
        for (int layer = 0; seals > 0 && layer < geometry.Layers; layer++)
        {
            need[cache.Classes.SealedIn(layer)] += cache.Classes.SealsInPlace(layer) ? 0 : seals * geometry.KvHeads;
        }

        int leaves = table.LeavesFor(table.Length + tokens);
        need[SlotCounts.Leaf] = leaves - table.Leaves;
        return new Want(need, cache.SequenceSize.Bytes(leaves) - cache.SequenceSize.Bytes(table.Leaves));
    }

    /// <summary>The first page that a step on a sequence may write in. A sealed last page that is only partly kept is reopened by the step that writes on.</summary>
    public static int FirstOpenOf(PageTable table, int pageTokens) =>
        table.TailTokens == 0 ? table.FirstOpen : Math.Min(table.FirstOpen, table.Length / pageTokens);

    /// <summary>True if a step has to copy a row's last page before it writes on in it.</summary>
    public static bool MustReplaceTail(CacheState cache, PageTable table, int row)
    {
        if (table.TailTokens == 0)
        {
            return false;
        }

        int entry = table.Count(row) - 1;
        return table.PageClass(row, entry) != KernelShape.Open || !cache.Pool.IsWritable(table.Slot(row, entry));
    }

    /// <summary>Makes room in the table, and lists pages for the step's tokens; a last page that others see, or that is sealed, is replaced by one to copy into.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="state">The sequence.</param>
    /// <param name="sequence">Its place in the step.</param>
    /// <param name="tokens">Tokens.</param>
    /// <param name="memory">The step's.</param>
    public void Grow(CacheState cache, SequenceState state, int sequence, int tokens, StepMemory memory)
    {
        PageTable table = state.Table;
        state.Resize(table.Length + tokens);
        while (table.Leaves < table.LeavesFor(table.Length + tokens))
        {
            table.AddLeaf(cache.Writer.Ready(memory.NextSlot(SlotCounts.Leaf), SlotCounts.Leaf, table.Owner));
        }

        (_table, Tokens, _firstOpen) = (table, tokens, FirstOpenOf(table, cache.Geometry.PageTokens));
        int firstNew = table.PagesFor(table.Length);
        int endNew = table.PagesFor(table.Length + tokens);
        for (int row = 0; row < table.Rows; row++)
        {
            if (MustReplaceTail(cache, table, row))
            {
                int entry = table.Count(row) - 1;
                int copy = cache.Writer.Ready(memory.NextSlot(KernelShape.Open), KernelShape.Open, table.Owner);
                memory.Add(new ReplacedTail
                {
                    Sequence = sequence,
                    Row = row,
                    Source = table.Slot(row, entry),
                    Class = table.PageClass(row, entry),
                    Copy = copy,
                    KeyRow = table.KeyRow(row),
                    Tokens = table.TailTokens,
                });
                cache.Pool.SetEncodings(copy, table.EncodingsAs(KernelShape.Open, row, entry));
                table.Relist(row, entry, copy, KernelShape.Open);
            }
        }

        // Page by page: all rows seal a page together, and where its slots lie side by side whole slabs are free then.
        for (int page = firstNew; page < endNew; page++)
        {
            for (int row = 0; row < table.Rows; row++)
            {
                table.List(row, page, cache.Writer.Ready(memory.NextSlot(KernelShape.Open), KernelShape.Open, table.Owner), KernelShape.Open);
            }
        }
    }

    /// <summary>Takes the step's pages and leaves out of the table, however far it has grown; replaced tails are the step's to put back.</summary>
    public void Shrink(CacheState cache, SequenceState state)
    {
        PageTable table = state.Table;
        for (int row = 0; row < table.Rows; row++)
        {
            table.Unlist(row, table.PagesFor(table.Length));
        }

        table.CloseLeaves(table.Length);
        state.Resize(table.Length);
        Tokens = 0;
        if (_isBound)
        {
            _isBound = false;
            cache.Scaling!.Unbind(state);
        }
    }

    /// <summary>Puts a sequence under key scales whose first pages in a T format the step seals; <see cref="Shrink"/> takes that back. Outside of the gate.</summary>
    public void BindScales(CacheState cache, SequenceState state)
    {
        bool seals = _firstOpen < cache.Classes.Seals.FirstOpen(_table.Length + Tokens);
        _isBound = seals && cache.Scaling is { SealsScaled: true } scaling && scaling.Bind(state, Tokens);
    }

    /// <summary>Adds the pages that the step's tokens leave far enough behind to those that it seals. Outside of the gate.</summary>
    public readonly void AddSeals(CacheState cache, int sequence, StepMemory memory)
    {
        int end = cache.Classes.Seals.FirstOpen(_table.Length + Tokens);
        for (int row = 0; row < _table.Rows; row++)
        {
            int pageClass = _table.SealedIn(row);
            bool inPlace = cache.Classes.SealsInPlace(row / cache.Geometry.KvHeads);
            for (int page = _firstOpen; page < end; page++)
            {
                int slot = _table.Slot(row, OpenEntryOf(row, page));

                // A fork that shares the page and was first: sealed in place there, or kept since no other format holds it. Two at
                // once write the same bits, one after the other.
                bool isSettled = cache.Pool.IsSealed(slot);
                memory.Add(new SealedPage
                {
                    Sequence = sequence,
                    Row = row,
                    Page = page,
                    Source = slot,
                    Target = inPlace ? slot : cache.Writer.Ready(memory.NextSlot(pageClass), pageClass, _table.Owner),
                    Class = (byte)pageClass,
                    ScoreWord = cache.Writer.SquaresOf(_table, row, page),
                    KeyRow = _table.KeyRow(row),
                    IsSettled = isSettled,
                    Outcome = isSettled && cache.Pool.ClassOf(slot) == KernelShape.Open ? PageOutcome.Kept : PageOutcome.Written,
                });
            }
        }
    }

    /// <summary>Lists a page that was sealed.</summary>
    public readonly void List(CacheState cache, in SealedPage page)
    {
        if (page.Outcome == PageOutcome.Written)
        {
            _table.Swap(page.Row, OpenEntryOf(page.Row, page.Page), page.Target, page.Class);
            return;
        }

        // Kept: sealed as it is, in full precision.
        cache.Pool.Seal(page.Source, KernelShape.Open);
        if (page.Target != page.Source)
        {
            cache.Pool.Release(page.Target);
        }
    }

    /// <summary>Makes the step's tokens part of the sequence, once its sealed pages are listed.</summary>
    public void Reach(SealRule seals)
    {
        int length = _table.Length + Tokens;
        _table.Reach(length, Math.Max(_firstOpen, seals.FirstOpen(length)));
        Tokens = 0;
    }

    // Open pages are contiguous at the end of a row.
    private readonly int OpenEntryOf(int row, int page) => _table.Count(row) - _table.PagesFor(_table.Length + Tokens) + page;
}
