using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A page to write anew in another class, or to move as it is.</summary>
/// <param name="Row">Row of the sequence: layer * KV heads + head.</param>
/// <param name="Page">Page index.</param>
/// <param name="Target">The class that it gets.</param>
internal readonly record struct PageChange(int Row, int Page, int Target);

/// <summary>
/// The one way in which a page comes to be written, apart from the append of a step: sealed, demoted, moved, merged, imported, packed as an open page.
/// Targets are slots that were just taken and that no table lists; what becomes of each is <see cref="PageOutcome.Written"/>, or
/// <see cref="PageOutcome.Kept"/> where its class cannot hold the numbers. Listing what was written is the caller's.
/// </summary>
/// <remarks>
/// Writes under the device gate. Sources may be given up once a call has returned: the device does one thing after the other. Where an outcome is
/// asked for, a call waits for the device; what belongs to a step does not.
/// </remarks>
internal sealed class PageWriter(KernelTier tier, Gate deviceGate, PageScrub scrub, CacheCounts counts)
{
    private const int MovesAtOnce = 256;

    /// <summary>True if seals leave the squares of keys and values among the scores.</summary>
    public bool WritesSquares { get; init; }

    private int PageTokens => tier.Shape.Geometry.PageTokens;

    /// <summary>Clears from a slot that was just taken what others left in it.</summary>
    /// <returns>The slot.</returns>
    public int Ready(int slot, int kind, int owner)
    {
        scrub.Prepare(slot, kind, owner);
        return slot;
    }

    /// <summary>First of a page's words among the scores that receives its squares; 0: none.</summary>
    public long SquaresOf(PageTable table, int row, int page) => WritesSquares ? table.ScoreWord(row, page) : 0;

    /// <summary>Enqueues the seals of a step's pages, behind what the step has written: beside the open ones, or in place where layouts agree.</summary>
    /// <param name="pages">The pages, as <see cref="TakeOutcomes"/> is given them.</param>
    /// <param name="batch">The step's.</param>
    public void Seal(ReadOnlySpan<SealedPage> pages, KernelBatch batch)
    {
        long began = pages.IsEmpty ? 0 : Durations.Begin(Durations.Seal);
        Span<PageMove> moves = stackalloc PageMove[MovesAtOnce];
        int pending = 0;
        for (int i = 0; i < pages.Length; i++)
        {
            ref readonly SealedPage page = ref pages[i];
            if (!page.IsSettled)
            {
                moves[pending++] = new PageMove(page.Source, KernelShape.Open, page.Target, page.Class, PageTokens, page.ScoreWord, page.KeyRow);
            }

            if (pending == MovesAtOnce || (i == pages.Length - 1 && pending > 0))
            {
                using (deviceGate.Enter())
                {
                    batch.Seal(moves[..pending]);
                }

                pending = 0;
            }
        }

        Durations.End(Durations.Seal, began, counts.Own);
    }

    /// <summary>Notes in a step's pages what became of their seals. The step's batch has ended.</summary>
    public static void TakeOutcomes(Span<SealedPage> pages, KernelBatch batch)
    {
        int move = 0;
        foreach (ref SealedPage page in pages)
        {
            if (!page.IsSettled)
            {
                page.Outcome = Outcome(batch.IsKept(move++));
            }
        }
    }

    /// <summary>Copies the tokens of last pages into the open pages that take their place.</summary>
    public void CopyTails(ReadOnlySpan<ReplacedTail> tails)
    {
        Span<PageMove> moves = stackalloc PageMove[MovesAtOnce];
        while (!tails.IsEmpty)
        {
            int count = Math.Min(tails.Length, MovesAtOnce);
            for (int i = 0; i < count; i++)
            {
                moves[i] = new PageMove(tails[i].Source, tails[i].Class, tails[i].Copy, KernelShape.Open, tails[i].Tokens, KeyRow: tails[i].KeyRow);
            }

            // Full precision holds whatever a page decodes to: there is nothing to wait for.
            using (deviceGate.Enter())
            {
                tier.Transcode(moves[..count]);
            }

            tails = tails[count..];
        }
    }

    /// <summary>Writes sealed pages anew in smaller classes.</summary>
    /// <param name="table">The table that lists them.</param>
    /// <param name="pages">256 at most: sealed pages, resident, each once, and classes that <see cref="PageTable.MayDemote"/> allows.</param>
    /// <param name="slots">A slot for each.</param>
    /// <param name="outcomes">Receives one for each.</param>
    public void Demote(PageTable table, ReadOnlySpan<PageChange> pages, ReadOnlySpan<int> slots, Span<PageOutcome> outcomes) =>
        Rewrite(table, pages, slots, outcomes);

    /// <summary>Copies sealed pages to other slots of their own class, bit for bit.</summary>
    public void Move(PageTable table, ReadOnlySpan<PageChange> pages, ReadOnlySpan<int> slots) => Rewrite(table, pages, slots, []);

    // Outcomes are left out for moves: a copy is never refused.
    private void Rewrite(PageTable table, ReadOnlySpan<PageChange> pages, ReadOnlySpan<int> slots, Span<PageOutcome> outcomes)
    {
        Span<PageMove> room = stackalloc PageMove[MovesAtOnce];
        Span<bool> kept = stackalloc bool[MovesAtOnce];
        Span<PageMove> moves = room[..pages.Length];
        for (int i = 0; i < pages.Length; i++)
        {
            (int row, int target) = (pages[i].Row, pages[i].Target);
            int entry = table.EntryOf(row, pages[i].Page);
            moves[i] = new PageMove(
                table.Slot(row, entry), table.PageClass(row, entry), Ready(slots[i], target, table.Owner), target, table.TokensIn(row, entry), KeyRow: table.KeyRow(row));
        }

        Write(moves, kept);
        for (int i = 0; i < outcomes.Length; i++)
        {
            outcomes[i] = Outcome(kept[i]);
        }
    }

    /// <summary>Seals a page that was packed on the host in the place of an entry's, in the entry's class.</summary>
    /// <param name="table">The table that lists the entry.</param>
    /// <param name="row">Row.</param>
    /// <param name="entry">The entry.</param>
    /// <param name="words">The packed open page.</param>
    /// <param name="open">A slot to write it in first.</param>
    /// <param name="slot">The sealed page's slot; the same as <paramref name="open"/> where the layer seals in place.</param>
    public PageOutcome Merge(PageTable table, int row, int entry, ReadOnlySpan<int> words, int open, int slot)
    {
        int pageClass = table.PageClass(row, entry);
        Ready(open, KernelShape.Open, table.Owner);
        if (slot != open)
        {
            Ready(slot, pageClass, table.Owner);
        }

        return SealPacked(words, new PageMove(open, KernelShape.Open, slot, pageClass, PageTokens, SquaresOf(table, row, table.PageIndex(row, entry)), table.KeyRow(row)));
    }

    /// <summary>Writes one token over an open page, or over a copy of a page in full precision.</summary>
    /// <param name="source">The page.</param>
    /// <param name="target">The page itself, or a slot that was made ready.</param>
    /// <param name="token">The token's place in the page.</param>
    /// <param name="key">Its key, <c>[key width]</c>.</param>
    /// <param name="value">Its value, <c>[value width]</c>.</param>
    public void PutToken(int source, int target, int token, ReadOnlySpan<float> key, ReadOnlySpan<float> value)
    {
        PageLayout layout = tier.Shape.Classes[KernelShape.Open];
        using var words = new Pooled<int>(layout.Units * PageLayout.UnitWords);
        using (deviceGate.Enter())
        {
            tier.Read((long)source * PageLayout.UnitWords, words.Span);
            OpenPage.Put(layout, token, key, value, words.Span);
            tier.Load((long)target * PageLayout.UnitWords, words.Span);
        }
    }

    /// <summary>Seals a page in full precision where it lies: its digest, and its squares, follow its keys.</summary>
    public PageOutcome SealInPlace(int slot, int pageClass, long scoreWord)
    {
        Span<bool> kept = stackalloc bool[1];
        Write([new PageMove(slot, KernelShape.Open, slot, pageClass, PageTokens, scoreWord)], kept);
        return Outcome(kept[0]);
    }

    /// <summary>Writes a page that comes in as it was saved, bit for bit.</summary>
    public void Import(int slot, ReadOnlySpan<int> words)
    {
        using (deviceGate.Enter())
        {
            tier.Load((long)slot * PageLayout.UnitWords, words);
        }
    }

    /// <summary>Writes a page that was packed on the host in full precision: as it is if its class is open, else sealed.</summary>
    /// <param name="words">The packed open page.</param>
    /// <param name="tokens">Tokens of it.</param>
    /// <param name="pageClass">The page's class.</param>
    /// <param name="slot">Its slot.</param>
    /// <param name="open">A slot to write it in first, where it is sealed: there it lies if it was kept.</param>
    /// <param name="keyRow">The row under the sequence's table of key scales.</param>
    public PageOutcome Import(ReadOnlySpan<int> words, int tokens, int pageClass, int slot, int open, int keyRow)
    {
        if (pageClass != KernelShape.Open)
        {
            return SealPacked(words, new PageMove(open, KernelShape.Open, slot, pageClass, tokens, KeyRow: keyRow));
        }

        Import(slot, words);
        return PageOutcome.Written;
    }

    private PageOutcome SealPacked(ReadOnlySpan<int> words, in PageMove move)
    {
        Span<bool> kept = stackalloc bool[1];
        using (deviceGate.Enter())
        {
            tier.Load((long)move.SourceSlot * PageLayout.UnitWords, words);
            Write([move], kept);
        }

        return Outcome(kept[0]);
    }

    private void Write(ReadOnlySpan<PageMove> moves, Span<bool> kept)
    {
        kept = kept[..moves.Length];
        kept.Clear();
        using (deviceGate.Enter())
        {
            tier.Transcode(moves, kept);
        }
    }

    private static PageOutcome Outcome(bool kept) => kept ? PageOutcome.Kept : PageOutcome.Written;
}
