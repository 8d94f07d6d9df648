using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Refuses a snapshot that cannot become sequences of a cache, before anything is taken for it.</summary>
internal static class RestoreCheck
{
    /// <exception cref="KvConfigurationException">It is of another model (E003).</exception>
    /// <exception cref="KvUnsupportedException">Its pages cannot be read here (E009).</exception>
    public static void Model(KvGeometry here, string? own, SnapshotContent content)
    {
        KvGeometry there = content.Geometry;
        Require(here.Layers == there.Layers, "layers", here.Layers, there.Layers);
        Require(here.QueryHeads == there.QueryHeads, "query heads", here.QueryHeads, there.QueryHeads);
        Require(here.Heads == there.Heads, "KV heads", here.Heads, there.Heads);
        Require(here.KeyWidth == there.KeyWidth, "key width", here.KeyWidth, there.KeyWidth);
        Require(here.ValueWidth == there.ValueWidth, "value width", here.ValueWidth, there.ValueWidth);
        string? saved = content.ModelFingerprint;
        Require(own is null || saved is null || own == saved, "model fingerprint", own, saved);
        if (content.LevelsVersion is not (Levels.Version or OldLevels.Version) && content.Classes.Any(OldLevels.AreIn))
        {
            throw new KvUnsupportedException(
                "snapshot", $"tables of levels of version {Levels.Version}, or {OldLevels.Version}, which is converted", $"version {content.LevelsVersion}");
        }
    }

    /// <summary>A tenant's snapshot gives the tenant's sequences alone. One of no tenant is the host's own, and may hold anyone's.</summary>
    /// <exception cref="KvSnapshotNotFoundException">It holds another's (E002).</exception>
    public static void Tenant(SnapshotInfo info, SnapshotContent content)
    {
        if (info.Name is { Tenant: { } tenant } && content.Sequences.Any(sequence => sequence.Tenant != tenant))
        {
            throw new KvSnapshotNotFoundException($"snapshot '{info.Name}'", $"sequences of tenant '{tenant}' alone", "one of another");
        }
    }

    /// <summary>Refuses tables of a sequence on which kernels could not work.</summary>
    /// <exception cref="KvCorruptionException">They are not (E004).</exception>
    public static void Sequence(SnapshotContent content, SnapshotSequence sequence)
    {
        SequenceStanding.Check(sequence);
        KvGeometry geometry = content.Geometry;
        int pages = geometry.PagesFor(sequence.Length);

        // Written on in, or read to the end, by everyone: never dropped.
        bool endsInPart = sequence.Length % geometry.PageTokens != 0;
        int whole = Math.Min(sequence.FirstOpenPage, endsInPart ? pages - 1 : pages);
        ReadOnlySpan<int> starts = sequence.RowStarts.Span, indexes = sequence.PageIndexes.Span;
        for (int row = 0; row < starts.Length - 1; row++)
        {
            int last = starts[row + 1] - (pages - whole);
            bool isThere = pages == whole || (last >= starts[row] && indexes[last] == whole);
            if (!isThere)
            {
                throw new KvCorruptionException($"sequence '{sequence.Id}', row {row}", $"all pages from {whole} to its end at {pages}", "fewer");
            }

            for (int entry = Math.Max(starts[row], last); entry < starts[row + 1]; entry++)
            {
                PageLayout layout = content.Classes[content.PageClasses.Span[sequence.Ordinals.Span[entry]]];
                if (indexes[entry] >= sequence.FirstOpenPage && !(layout.KeyFormat.IsFullPrecision() && layout.ValueFormat.IsFullPrecision()))
                {
                    throw new KvCorruptionException($"sequence '{sequence.Id}', row {row}", $"open pages in full precision, page {indexes[entry]} among them", $"{layout}");
                }
            }
        }
    }

    /// <summary>Refuses numbers that the cache's own steps would have refused, in a page that comes in as it was saved.</summary>
    /// <exception cref="KvUnsupportedException">An element that the cache refuses (E009).</exception>
    public static void Page(CacheState cache, PageLayout layout, int tokens, ReadOnlySpan<int> words)
    {
        KernelShape shape = cache.Tier.Shape;
        foreach (bool isValue in shape.KeepsNonFinite ? [] : (ReadOnlySpan<bool>)[false, true])
        {
            uint refusedFrom = isValue ? shape.ValueRefusedFrom : shape.KeyRefusedFrom;
            if (!PageTokens.AreTaken(layout, isValue, tokens, refusedFrom, words))
            {
                throw Refused(isValue ? "value" : "key", refusedFrom, "NaN, an infinity, or a larger one");
            }
        }
    }

    public static KvUnsupportedException Refused(string part, uint refusedFrom, string actual) => new(
        $"a {part} of the snapshot", $"a magnitude below {BitConverter.UInt32BitsToSingle(refusedFrom)}, as the cache's formats hold it", actual);

    private static void Require<T>(bool holds, string what, T expected, T actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException("snapshot", $"a {what} of {expected}, as the cache has", $"{actual}");
        }
    }
}
