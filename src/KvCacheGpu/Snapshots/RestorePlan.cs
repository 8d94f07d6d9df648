using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A page that a restore makes.</summary>
/// <param name="Sequence">A sequence that lists it, by its place in the plan.</param>
/// <param name="Row">A row of it that does.</param>
/// <param name="Class">Class that it gets.</param>
/// <param name="IsSealed">True if it never changes again.</param>
/// <param name="IsExact">True if its bytes are those that were saved.</param>
/// <param name="Encodings">How often its keys and values will have been encoded with loss.</param>
internal readonly record struct PlannedPage(int Sequence, int Row, int Class, bool IsSealed, bool IsExact, Encodings Encodings)
{
    /// <summary>Tokens that it holds.</summary>
    public int Tokens { get; init; }

    /// <summary>The saved pages that it is made of, from the one that holds its first token on; one where page sizes agree.</summary>
    public required int[] Sources { get; init; }

    /// <summary>Its first token, counted from that of the first source.</summary>
    public int Skipped { get; init; }
}

/// <summary>A sequence that a restore makes: its entries by row, as <see cref="SnapshotSequence"/> has them, of planned pages.</summary>
internal sealed record PlannedSequence(SnapshotSequence Saved, int FirstOpen)
{
    public required int[] RowStarts { get; init; }

    public required int[] PageIndexes { get; init; }

    public required int[] Pages { get; init; }
}

/// <summary>Which pages of this cache a snapshot becomes: as they are where layouts agree, else written anew.</summary>
internal sealed class RestorePlan
{
    private readonly PageClasses _classes;
    private readonly SnapshotContent _content;
    private readonly int[] _exactClass;
    private readonly IReadOnlyList<PlannedScales> _scales;
    private readonly Dictionary<(int Ordinal, int Class, int KeyTable), int> _pageOf = [];
    private readonly Dictionary<string, int> _pageOfParts = new(StringComparer.Ordinal);
    private readonly List<PlannedPage> _pages = [];

    /// <summary>Plans the given sequences of a content that was checked (<see cref="RestoreCheck"/>).</summary>
    /// <param name="classes">The pages here.</param>
    /// <param name="content">The snapshot.</param>
    /// <param name="sequences">The sequences.</param>
    /// <param name="scales">The key scales of each.</param>
    public RestorePlan(PageClasses classes, SnapshotContent content, IReadOnlyList<SnapshotSequence> sequences, IReadOnlyList<PlannedScales> scales)
    {
        (_classes, _content, _scales) = (classes, content, scales);
        _exactClass = [.. content.Classes.Select((layout, c) => ExactClass(layout, c))];
        Sequences = [.. sequences.Select((saved, i) => SamePages ? Plan(saved, i) : Regroup(saved, i))];
    }

    /// <summary>True if both have pages of as many tokens.</summary>
    public bool SamePages => _content.Geometry.PageTokens == Geometry.PageTokens;

    public IReadOnlyList<PlannedPage> Pages => _pages;

    /// <summary>True if all pages come as they were saved.</summary>
    public bool IsExact => _pages.TrueForAll(page => page.IsExact);

    public IReadOnlyList<PlannedSequence> Sequences { get; }

    /// <summary>Says that a page stays in full precision, since its class does not hold it.</summary>
    public void Keep(int page) => _pages[page] = _pages[page] with { Class = KernelShape.Open };

    /// <summary>Slots by class.</summary>
    public SlotCounts Need
    {
        get
        {
            SlotCounts need = default;
            foreach (PlannedPage page in _pages)
            {
                need[page.Class]++;
            }

            return need;
        }
    }

    private KvGeometry Geometry => _classes.Shape.Geometry;

    private PlannedSequence Plan(SnapshotSequence saved, int sequence)
    {
        // Who saved it may have sealed later than steps do here: what they would have sealed is sealed now.
        int open = Math.Max(saved.FirstOpenPage, _classes.Seals.FirstOpen(saved.Length));
        (int[] starts, int[] indexes) = (saved.RowStarts.ToArray(), saved.PageIndexes.ToArray());
        int[] pages = new int[indexes.Length];
        for (int row = 0; row < starts.Length - 1; row++)
        {
            for (int entry = starts[row]; entry < starts[row + 1]; entry++)
            {
                int tokens = Math.Min(Geometry.PageTokens, saved.Length - (indexes[entry] * Geometry.PageTokens));
                bool isSealedNow = indexes[entry] >= saved.FirstOpenPage && indexes[entry] < open && !IsSealed(saved.Ordinals.Span[entry]);
                pages[entry] = isSealedNow
                    ? PageOfParts(saved.Ordinals.Span.Slice(entry, 1), sequence, row, 0, tokens, isOpen: false)
                    : PageOf(saved.Ordinals.Span[entry], sequence, row, indexes[entry] >= open, tokens);
            }
        }

        return new PlannedSequence(saved, open) { RowStarts = starts, PageIndexes = indexes, Pages = pages };
    }

    // A page may be sealed for one sequence and still open for its fork, where it is sealed as it lies.
    private int PageOf(int ordinal, int sequence, int row, bool isOpen, int tokens)
    {
        int from = _content.PageClasses.Span[ordinal];
        bool isOther = _content.Classes[from].KeyFormat.IsCentered() && !_scales[sequence].AreKept;
        int exactClass = isOther ? -1 : _exactClass[from];
        int target = TargetOf(ordinal, exactClass, row / Geometry.KvHeads, isOpen);
        var name = (ordinal, target, _classes.Shape.Classes[target].KeyFormat.IsCentered() ? _scales[sequence].KeyTable : 0);
        if (_pageOf.TryGetValue(name, out int known))
        {
            _pages[known] = _pages[known] with { Tokens = Math.Max(_pages[known].Tokens, tokens), IsSealed = _pages[known].IsSealed || !isOpen };
            return known;
        }

        PageLayout before = _content.Classes[from];
        bool isSealed = !isOpen || IsSealed(ordinal);
        bool isExact = exactClass >= 0 && (target == exactClass || HoldsSame(target, before));
        Encodings encodings = Went(ordinal, before);
        var page = new PlannedPage(sequence, row, target, isSealed, isExact, isExact ? encodings : encodings.After(before, _classes.Shape.Classes[target]))
        {
            Sources = [ordinal],
            Tokens = tokens,
        };
        return _pageOf[name] = Add(page);
    }

    // A page that is sealed in a layout that the layer has here stays in it; so does one that was kept in full precision.
    private int TargetOf(int ordinal, int exactClass, int layer, bool isOpen)
    {
        int from = _content.PageClasses.Span[ordinal];
        bool wasKept = from == KernelShape.Open && !isOpen;
        if ((isOpen && !IsSealed(ordinal)) || wasKept)
        {
            return KernelShape.Open;
        }

        int target = exactClass;
        bool isHere = target > 0 && (_classes.Shape.LayerClasses[layer] & (1 << target)) != 0;
        return isOpen ? isHere && HoldsSame(KernelShape.Open, _classes.Shape.Classes[target]) ? target : KernelShape.Open
            : isHere ? target : _classes.SealedIn(layer);
    }

    // The class here whose pages have the same bits: layout and, where formats are rotated, its signs.
    private int ExactClass(PageLayout layout, int from)
    {
        bool isRotated = layout.KeyFormat.IsRotated() || layout.ValueFormat.IsRotated();
        if (!SamePages || (isRotated && _content.RotationSeed != _classes.Shape.RotationSeed))
        {
            return -1;
        }

        if (from == KernelShape.Open)
        {
            PageLayout open = _classes.Shape.Classes[KernelShape.Open];
            return open.KeyFormat == layout.KeyFormat && open.ValueFormat == layout.ValueFormat ? KernelShape.Open : -1;
        }

        for (int c = 1; c < _classes.Count; c++)
        {
            if (_classes.Shape.Classes[c] == layout)
            {
                return c;
            }
        }

        return -1;
    }

    private bool HoldsSame(int target, PageLayout layout) => _classes.Shape.Classes[target] == layout;

    private bool IsSealed(int ordinal) => _content.PageStates.Length > 0 && (_content.PageStates.Span[ordinal] & PageState.Sealed) != 0;

    // Who saved without states did not count; a page in a lossy format went through one encoding at least.
    private Encodings Went(int ordinal, PageLayout layout)
    {
        Encodings said = _content.PageStates.Length == 0 ? default : PageState.EncodingsOf(_content.PageStates.Span[ordinal]);
        return new Encodings(
            Math.Max(said.Key, layout.KeyFormat.IsFullPrecision() ? 0 : 1), Math.Max(said.Value, layout.ValueFormat.IsFullPrecision() ? 0 : 1));
    }

    // Pages of another size: those stay whose tokens are all there. Sealed are those whose tokens were, and those that steps would have sealed; a
    // last page that is not full stays open, as a step would write on in it.
    private PlannedSequence Regroup(SnapshotSequence saved, int sequence)
    {
        (int from, int to) = (_content.Geometry.PageTokens, Geometry.PageTokens);
        int open = Math.Min(saved.Length / to, Math.Max((int)((long)saved.FirstOpenPage * from / to), _classes.Seals.FirstOpen(saved.Length)));
        var starts = new List<int> { 0 };
        var indexes = new List<int>();
        var pages = new List<int>();
        ReadOnlySpan<int> rowStarts = saved.RowStarts.Span;
        for (int row = 0; row < rowStarts.Length - 1; row++)
        {
            ReadOnlySpan<int> savedIndexes = saved.PageIndexes.Span[rowStarts[row]..rowStarts[row + 1]];
            ReadOnlySpan<int> ordinals = saved.Ordinals.Span[rowStarts[row]..rowStarts[row + 1]];
            for (int page = 0; page < Geometry.PagesFor(saved.Length); page++)
            {
                int first = page * to;
                int end = Math.Min(saved.Length, first + to);
                int entry = savedIndexes.BinarySearch(first / from);
                int count = ((end - 1) / from) - (first / from) + 1;
                if (entry >= 0 && entry + count <= savedIndexes.Length && savedIndexes[entry + count - 1] == (end - 1) / from)
                {
                    indexes.Add(page);
                    pages.Add(PageOfParts(ordinals.Slice(entry, count), sequence, row, first % from, end - first, page >= open));
                }
                else if (page >= open || end == saved.Length)
                {
                    throw new KvUnsupportedException(
                        $"sequence '{saved.Id}'", $"pages of {from} tokens, or of a part of that: some of those before its end were evicted", $"pages of {to} tokens");
                }
            }

            starts.Add(indexes.Count);
        }

        return new PlannedSequence(saved, open) { RowStarts = [.. starts], PageIndexes = [.. indexes], Pages = [.. pages] };
    }

    private int PageOfParts(ReadOnlySpan<int> sources, int sequence, int row, int skipped, int tokens, bool isOpen)
    {
        int layer = row / Geometry.KvHeads;
        string key = $"{layer}:{_scales[sequence].KeyTable}:{skipped}:{tokens}:{isOpen}:{string.Join(',', sources.ToArray())}";
        if (!_pageOfParts.TryGetValue(key, out int page))
        {
            int target = isOpen ? KernelShape.Open : _classes.SealedIn(layer);
            Encodings most = default;
            foreach (int source in sources)
            {
                PageLayout layout = _content.Classes[_content.PageClasses.Span[source]];
                Encodings after = Went(source, layout).After(layout, _classes.Shape.Classes[target]);
                most = new Encodings(Math.Max(most.Key, after.Key), Math.Max(most.Value, after.Value));
            }

            _pageOfParts[key] = page = Add(new PlannedPage(sequence, row, target, !isOpen, false, most) { Sources = sources.ToArray(), Skipped = skipped, Tokens = tokens });
        }

        return page;
    }

    private int Add(in PlannedPage page)
    {
        _pages.Add(page);
        return _pages.Count - 1;
    }
}
