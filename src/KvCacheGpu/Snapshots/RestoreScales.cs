namespace KvCacheGpu;

/// <summary>The key scales of a sequence that a restore makes.</summary>
/// <param name="Saved">Those that its T pages were saved under; null if they were 1.</param>
/// <param name="AreKept">True if it is under the same here, so that its T pages may stay as they are.</param>
/// <param name="KeyTable">The table that it is under here; -1 if it had no T page, and is under none yet.</param>
internal readonly record struct PlannedScales(KvKeyScales? Saved, bool AreKept, int KeyTable);

/// <summary>
/// Binds the sequences of a restore to the key scales that they were saved under, if there is a table for them; else their T pages are written anew, under the
/// scales that the cache has for others.
/// </summary>
internal sealed class RestoreScales(CacheState cache)
{
    private readonly List<PlannedScales> _planned = [];
    private KvKeyScales? _adopted;

    /// <summary>The scales of each sequence.</summary>
    public IReadOnlyList<PlannedScales> Planned => _planned;

    /// <summary>True if there was no table for some sequence's.</summary>
    public bool AnyOther => _planned.Any(scales => scales is { KeyTable: >= 0, AreKept: false });

    /// <summary>Binds the next sequence, before the pages of any are planned.</summary>
    /// <exception cref="KvCorruptionException">E004: its scales are not of the model.</exception>
    public void Bind(SequenceState sequence, SnapshotSequence saved, SnapshotContent content)
    {
        KvKeyScales? scales = SequenceStanding.ScalesOf(saved, content.Geometry);
        bool isScaled = false;
        foreach (int ordinal in saved.Ordinals.Span)
        {
            isScaled |= content.Classes[content.PageClasses.Span[ordinal]].KeyFormat.IsCentered();
        }

        bool areKept = false;
        if (isScaled && cache.Scaling is { } scaling)
        {
            areKept = scaling.TryBind(sequence, scales, out bool isAdopted);
            _adopted = isAdopted ? scales : _adopted;
            if (!areKept)
            {
                scaling.BindKnown([sequence]);
            }
        }

        _planned.Add(new PlannedScales(scales, areKept, sequence.Table.KeyTable));
    }

    /// <summary>Binds those sequences that get T pages and had none, before any page is written; and those whose sealed pages prefixes are known by, before any hash is.</summary>
    public void BindRest(RestorePlan plan, IReadOnlyList<SequenceState> sequences)
    {
        if (cache.Scaling is { } scaling)
        {
            scaling.BindKnown(sequences.Where((_, i) => IsToBind(scaling, plan.Sequences[i])));
        }

        bool IsToBind(KeyScaling scaling, PlannedSequence planned)
        {
            bool isHashed = scaling.SealsScaled && planned.FirstOpen > 0;
            return isHashed || planned.Pages.Any(page => scaling.IsScaled(plan.Pages[page].Class));
        }
    }

    /// <summary>After a load that failed, whose sequences are gone: the cache learns on where it has adopted its scales.</summary>
    public void Abandon()
    {
        using (cache.Pool.Gate.Enter())
        {
            if (_adopted is not null && !cache.IsDisposed)
            {
                cache.Scaling!.GiveUp(_adopted);
            }
        }
    }
}
