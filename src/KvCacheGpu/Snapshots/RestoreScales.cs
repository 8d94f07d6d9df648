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

        bool areKept = isScaled && cache.Scaling?.TryBind(sequence, scales ?? KvKeyScales.None(cache.Geometry)) == true;
        if (isScaled && !areKept)
        {
            cache.Scaling?.BindKnown([sequence]);
        }

        _planned.Add(new PlannedScales(scales, areKept, sequence.Table.KeyTable));
    }

    /// <summary>Binds those sequences that get T pages and had none, before any page is written.</summary>
    public void BindRest(RestorePlan plan, IReadOnlyList<SequenceState> sequences) =>
        cache.Scaling?.BindKnown(plan.Pages.Where(page => cache.Scaling.IsScaled(page.Class)).Select(page => sequences[page.Sequence]));
}
