using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The sequences that a snapshot became, and how much of them is what was saved. See <see cref="KvRestored"/>.</summary>
internal sealed record RestoredSequences(IReadOnlyList<SequenceState> Sequences, long ExactPages, long ReencodedPages, long EvictedPages, IReadOnlyList<string> Notes)
{
    /// <summary>The snapshot.</summary>
    public SnapshotInfo? Snapshot { get; init; }
}

/// <summary>
/// A snapshot on its way into a cache. Until <see cref="Complete"/> its pages are taken, but listed nowhere, and its sequences are held: no
/// step, no plan and no other snapshot meets them.
/// </summary>
/// <param name="cache">The cache.</param>
/// <param name="life">Makes the sequences.</param>
/// <param name="evictor">Asks the policy which pages are left out where there is no room for all; null: then nothing comes.</param>
/// <param name="ids">The sequences to restore; null takes all.</param>
/// <param name="keepsAll">True if pages may lie in host memory, but none may be left out.</param>
internal sealed class CacheRestore(CacheState cache, SequenceLife life, Evictor? evictor, IReadOnlyCollection<string>? ids, bool keepsAll = false)
{
    private readonly List<SequenceState> _sequences = [];
    private readonly RestorePages _pages = new(cache);
    private readonly RestoreEviction _eviction = new(cache, evictor) { KeepsAll = keepsAll };
    private readonly RestoreScales _scales = new(cache);
    private SnapshotSequence[] _chosen = [];
    private SnapshotContent _content = null!;
    private RestorePlan _plan = null!;
    private PageRewriter? _rewriter;
    private int[] _firstPageOf = [];
    private int[] _nextPage = [];
    private byte[] _converted = [];
    private long _kept;

    /// <summary>The new sequences, from <see cref="Begin"/> on; held until <see cref="Complete"/>.</summary>
    public IReadOnlyList<SequenceState> Sequences => _sequences;

    /// <summary>True if pages come as they were saved, or are at least of as many tokens: they may then be written in the order of the file (<see cref="Write(int, ReadOnlySpan{byte})"/>).</summary>
    public bool ReadsInOrder => _plan.SamePages;

    /// <summary>Checks the snapshot and takes all that it needs, or refuses and changes nothing.</summary>
    /// <param name="content">The snapshot.</param>
    /// <param name="away">Saved pages that were in host memory, and go back there; null if that is not known.</param>
    public void Begin(SnapshotContent content, IReadOnlySet<int>? away = null)
    {
        Make(content);
        try
        {
            _chosen = away is null ? _chosen : _eviction.Without(new RestorePlan(cache.Classes, _content, _chosen, _scales.Planned), away);
            for (int round = 0; TryTake() is { } shortage; round++)
            {
                _chosen = _eviction.TryShrink(_sequences, _plan, shortage, round) ?? throw cache.Counts.Refuse(shortage);
            }

            MakeReady();
        }
        catch
        {
            Abandon();
            throw;
        }
    }

    /// <summary>The first part of <see cref="Begin"/>: checks the snapshot and makes its sequences, without pages, or refuses and changes nothing.</summary>
    public void Make(SnapshotContent content)
    {
        _content = content;

        // Steps that wait for their outcome hold pages twice, and working memory.
        cache.Unsettled.SettleAll();
        RestoreCheck.Model(cache.Geometry, cache.Options.ModelFingerprint, content);
        _chosen = Choose(content);
        foreach (SnapshotSequence saved in _chosen)
        {
            if (saved.Length > cache.MaxSequenceTokens)
            {
                throw cache.Counts.Refuse(new KvShortage($"sequence '{saved.Id}'", KvResource.SequenceTokens, saved.Length, cache.MaxSequenceTokens));
            }

            RestoreCheck.Sequence(content, saved);
        }

        life.ThrowIfNoRoomFor(_chosen.Length, "a load");
        try
        {
            foreach (SnapshotSequence saved in _chosen)
            {
                SequenceState sequence = life.Create(SequenceStanding.OptionsOf(saved), isHeld: true);
                _sequences.Add(sequence);
                MakeRoom(sequence, saved);
                SequenceStanding.Restore(saved, sequence);
                _scales.Bind(sequence, saved, content);
                if (content.Geometry.PageTokens == cache.Geometry.PageTokens)
                {
                    SequenceColumns.Restore(cache, sequence, saved, cache.Clock.StepsLater(saved.Steps));
                }
            }
        }
        catch
        {
            Abandon();
            throw;
        }
    }

    /// <summary>The second part: takes the pages of the sequences, or says what they lack and takes nothing.</summary>
    public KvShortage? TryTake()
    {
        _plan = new RestorePlan(cache.Classes, _content, _chosen, _scales.Planned);
        return _pages.TryTake(_plan);
    }

    /// <summary>Gives the pages back that <see cref="TryTake"/> has taken, and leaves entries out of the sequences.</summary>
    /// <param name="drops">By sequence and entry.</param>
    public void LeaveOut(bool[][] drops)
    {
        _pages.Release();
        _chosen = _eviction.Without(_plan, drops);
    }

    /// <summary>By sequence the entries of the plan that was tried last, and the bytes that each frees; null if the policy may drop none.</summary>
    /// <param name="round">How often pages were left out before.</param>
    public (int[] RowStarts, int[] PageIndexes, int[] Bytes)[]? Droppable(int round)
    {
        if (!_eviction.MayShrink(_plan, round))
        {
            return null;
        }

        int[][] bytes = _eviction.FreedBy(_plan);
        return [.. _plan.Sequences.Select((sequence, i) => (sequence.RowStarts, sequence.PageIndexes, bytes[i]))];
    }

    /// <summary>The last part: makes ready what was taken.</summary>
    public void MakeReady()
    {
        HoldToQuotas(_plan);
        _rewriter = _pages.Open == 0 ? null : new PageRewriter(cache, _content);
        ListByOrdinal();
        _scales.BindRest(_plan, _sequences);
        _pages.MakeReady(_plan, _sequences);
    }

    private void MakeRoom(SequenceState sequence, SnapshotSequence saved)
    {
        using (cache.EnterLive())
        {
            if (life.MakeRoom(sequence, saved.Length, $"sequence '{saved.Id}'") is { } shortage)
            {
                throw cache.Counts.Refuse(shortage);
            }
        }
    }

    /// <summary>Reads all pages and writes them where they belong.</summary>
    public void ReadPages(OpenSnapshot snapshot, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        if (_plan.SamePages)
        {
            snapshot.ReadAll(Write, progress, cancel);
        }
        else
        {
            Regroup(snapshot, progress, cancel);
        }
    }

    /// <summary>Publishes the sequences, and leaves them.</summary>
    public RestoredSequences Complete()
    {
        _pages.Publish(_plan, _sequences);
        foreach (int i in Enumerable.Range(0, _sequences.Count).OrderBy(i => SequenceStanding.Number(_plan.Sequences[i].Saved, SequenceStanding.LastStep)))
        {
            _sequences[i].LastStep = cache.Clock.Tick();
            cache.Clock.CountTo(_plan.Sequences[i].Saved.Steps);
        }

        ReleaseTemporary();
        foreach (SequenceState sequence in _sequences)
        {
            sequence.Gate.Leave();
        }

        long exact = _plan.Pages.Count(page => page.IsExact);
        return new RestoredSequences(_sequences, exact, _plan.Pages.Count - exact, _eviction.Count(), [.. Notes()]);
    }

    /// <summary>Gives everything back.</summary>
    public void Abandon()
    {
        ReleaseTemporary();
        _pages.Release();
        _eviction.Away.Abandon();
        foreach (SequenceState sequence in _sequences)
        {
            // Never left before: a save that waits for its turn would meet tokens without pages.
            life.DisposeHeld(sequence);
        }

        _sequences.Clear();
        _scales.Abandon();
    }

    private SnapshotSequence[] Choose(SnapshotContent content)
    {
        SnapshotSequence[] chosen = [.. content.Sequences.Where(saved => ids is null || ids.Contains(saved.Id))];
        foreach (string id in ids ?? [])
        {
            if (!chosen.Any(saved => saved.Id == id))
            {
                throw new KvSnapshotNotFoundException($"sequence '{id}'", "it in the snapshot", $"{content.Sequences.Count} others");
            }
        }

        return chosen;
    }

    // Sequences that are being made count their tokens already. From here on they count their pages as well, so that a step meanwhile finds no room for these.
    private void HoldToQuotas(RestorePlan plan)
    {
        using (cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < _sequences.Count; i++)
            {
                _sequences[i].ComingBytes = plan.Sequences[i].Pages.Sum(page => (long)cache.Tier.Shape.Classes[plan.Pages[page].Class].Bytes);
            }

            foreach (IGrouping<TenantAccount, SequenceState> own in _sequences.GroupBy(sequence => sequence.Account))
            {
                if (TenantRoom.WhyNot(cache, own.Key, "a load", own.Sum(one => one.ComingBytes), own.Sum(one => (long)one.Length), areHeld: true) is { } shortage)
                {
                    throw cache.Counts.Refuse(shortage);
                }
            }
        }
    }

    // Which planned pages begin with a saved one: a list threaded through the pages, by their first source.
    private void ListByOrdinal()
    {
        _firstPageOf = new int[_content.Pages];
        _nextPage = new int[_plan.Pages.Count];
        Array.Fill(_firstPageOf, -1);
        for (int page = _plan.Pages.Count - 1; page >= 0; page--)
        {
            ref int first = ref _firstPageOf[_plan.Pages[page].Sources[0]];
            (_nextPage[page], first) = (first, page);
        }
    }

    /// <summary>Writes whole pages, one behind the other from <paramref name="firstOrdinal"/> on, wherever they belong; pages that are listed nowhere are passed over.</summary>
    public void Write(int firstOrdinal, ReadOnlySpan<byte> bytes)
    {
        for (int ordinal = firstOrdinal; bytes.Length > 0; ordinal++)
        {
            int length = _content.BytesOf(ordinal);
            _eviction.Away.Write(_sequences, ordinal, _content.Classes[_content.PageClasses.Span[ordinal]], MemoryMarshal.Cast<byte, int>(InLevelsOfToday(ordinal, bytes[..length])));
            if (_firstPageOf[ordinal] >= 0)
            {
                ReadOnlySpan<byte> saved = InLevelsOfToday(ordinal, bytes[..length]);
                for (int page = _firstPageOf[ordinal]; page >= 0; page = _nextPage[page])
                {
                    Write(page, ordinal, saved);
                }
            }

            bytes = bytes[length..];
        }
    }

    // Where pages enter: from here on those of older tables of levels are like any others.
    private ReadOnlySpan<byte> InLevelsOfToday(int ordinal, ReadOnlySpan<byte> saved)
    {
        PageLayout layout = _content.Classes[_content.PageClasses.Span[ordinal]];
        if (_content.LevelsVersion != OldLevels.Version || !OldLevels.AreIn(layout))
        {
            return saved;
        }

        if (_converted.Length < saved.Length)
        {
            _converted = new byte[_content.Classes.Max(one => one.Bytes)];
        }

        Span<byte> page = _converted.AsSpan(0, saved.Length);
        saved.CopyTo(page);
        OldLevels.Convert(layout, _content.Geometry, MemoryMarshal.Cast<byte, int>(page));
        return page;
    }

    private void Write(int page, int ordinal, ReadOnlySpan<byte> bytes)
    {
        cache.ThrowIfDisposed();
        PlannedPage planned = _plan.Pages[page];
        if (planned.IsExact)
        {
            // An open page may lie here without the room for a digest that it had there.
            int length = Math.Min(bytes.Length, cache.Tier.Shape.Classes[planned.Class].Bytes);
            ReadOnlySpan<int> words = MemoryMarshal.Cast<byte, int>(bytes);
            RestoreCheck.Page(cache, _content.Classes[_content.PageClasses.Span[ordinal]], planned.Tokens, words);
            cache.Writer.Import(_pages.Slots[page], words[..(length / sizeof(int))]);
            return;
        }

        _rewriter!.Decode(_content.PageClasses.Span[ordinal], bytes, 0, 0, planned.Tokens, _scales.Planned[planned.Sequence].Saved, planned.Row);
        Rewrite(page);
    }

    private void Regroup(OpenSnapshot snapshot, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        byte[] bytes = new byte[_content.Classes.Max(layout => layout.Bytes)];
        int from = _content.Geometry.PageTokens;
        for (int page = 0; page < _plan.Pages.Count; page++)
        {
            PlannedPage planned = _plan.Pages[page];
            int at = 0;
            int skipped = planned.Skipped;
            foreach (int source in planned.Sources)
            {
                cancel.ThrowIfCancellationRequested();
                cache.ThrowIfDisposed();
                Span<byte> saved = bytes.AsSpan(0, _content.BytesOf(source));
                snapshot.Read(source, saved, cancel);
                int tokens = Math.Min(from - skipped, planned.Tokens - at);
                _rewriter!.Decode(_content.PageClasses.Span[source], InLevelsOfToday(source, saved), skipped, at, tokens, _scales.Planned[planned.Sequence].Saved, planned.Row);
                (at, skipped) = (at + tokens, 0);
            }

            Rewrite(page);
            progress?.Report(new SnapshotProgress(page + 1, _plan.Pages.Count));
        }
    }

    private void Rewrite(int page)
    {
        PlannedPage planned = _plan.Pages[page];
        if (_rewriter!.Write(planned, _pages.Slots[page], _pages.Open, _sequences[planned.Sequence].Table.KeyRow(planned.Row)) == PageOutcome.Kept)
        {
            // No format holds it: it stays in full precision, as a step would leave it.
            _pages.Keep(page);
            _plan.Keep(page);
            _kept++;
        }
    }

    private void ReleaseTemporary()
    {
        _rewriter?.Dispose();
        _rewriter = null;
        _pages.ReleaseOpen();
    }

    private IEnumerable<string> Notes()
    {
        KvCacheOptions here = cache.Options;
        if (!_plan.SamePages)
        {
            yield return $"pages of {_content.Geometry.PageTokens} tokens became pages of {cache.Geometry.PageTokens}; what was known of their worth begins anew";
        }
        else if (evictor is not null && _plan.Sequences.Any(sequence => !SequenceColumns.Has(sequence.Saved, cache.Needs)))
        {
            yield return "the snapshot does not say what the policy asks of pages: it begins with 0";
        }

        if (_content.RotationSeed != here.RotationSeed && _plan.Pages.Any(page => !page.IsExact))
        {
            yield return $"the rotation's seed was {_content.RotationSeed}, here it is {here.RotationSeed}";
        }

        if (_scales.AnyOther)
        {
            yield return "pages in T formats are under other key scales here: sequences under two others live already";
        }

        foreach (string pair in _plan.Pages.Where(page => !page.IsExact).Select(FormatsOf).Distinct())
        {
            yield return $"pages were written anew: {pair}";
        }

        if (_kept > 0)
        {
            yield return $"{_kept} pages stay in full precision, since their format cannot hold them";
        }

        if (_content.ModelFingerprint != here.ModelFingerprint)
        {
            yield return $"the model was not compared: '{_content.ModelFingerprint ?? "not said"}' there, '{here.ModelFingerprint ?? "not said"}' here";
        }

        if (_eviction.Evicted > 0)
        {
            yield return $"the policy dropped {_eviction.Evicted} pages, since the budget does not hold all";
        }
    }

    private string FormatsOf(PlannedPage page) =>
        $"{_content.Classes[_content.PageClasses.Span[page.Sources[0]]]} to {cache.Tier.Shape.Classes[page.Class]}";
}
