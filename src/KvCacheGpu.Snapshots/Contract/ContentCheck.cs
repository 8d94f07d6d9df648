using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Checks that a content holds together; a caller's and a file's alike.</summary>
internal static class ContentCheck
{
    /// <summary>Says what should be and is not, the first such thing; null if all is well.</summary>
    public static string? FirstFlaw(SnapshotContent content)
    {
        if (content.Classes.Count is < 1 or > KernelShape.MaxClasses)
        {
            return $"1..{KernelShape.MaxClasses} page classes, got {content.Classes.Count}";
        }

        if (content.LayerClasses.Count != content.Geometry.Layers || content.LayerClasses.Any(mask => mask >> content.Classes.Count != 0))
        {
            return $"classes below {content.Classes.Count} for {content.Geometry.Layers} layers";
        }

        if (content.Pages > SnapshotLimits.Pages || content.Sequences.Count > SnapshotLimits.Sequences)
        {
            return $"at most {SnapshotLimits.Pages} pages and {SnapshotLimits.Sequences} sequences";
        }

        if (SnapshotLimits.Flaw(content.ModelFingerprint) is { } fingerprint)
        {
            return $"a model's fingerprint of {fingerprint}";
        }

        if (content.PageClasses.Span.ContainsAnyExceptInRange((byte)0, (byte)(content.Classes.Count - 1)))
        {
            return $"pages of classes below {content.Classes.Count}";
        }

        if (content.PageStates.Length != 0 && content.PageStates.Length != content.Pages)
        {
            return $"a state for each of {content.Pages} pages, got {content.PageStates.Length}";
        }

        var seen = new HashSet<(string?, string)>();
        foreach (SnapshotSequence sequence in content.Sequences)
        {
            string? flaw = seen.Add((sequence.Tenant, sequence.Id)) ? FirstFlaw(content, sequence) : "ids that are unique, it is there twice";
            if (flaw is not null)
            {
                return $"sequence '{sequence.Id}': {flaw}";
            }
        }

        return null;
    }

    private static string? FirstFlaw(SnapshotContent content, SnapshotSequence sequence)
    {
        KvGeometry geometry = content.Geometry;
        int rows = (int)Math.Min((long)geometry.Layers * geometry.KvHeads, Array.MaxLength - 1);
        int pages = geometry.PagesFor(sequence.Length);
        ReadOnlySpan<int> starts = sequence.RowStarts.Span;
        if (starts.Length != rows + 1 || starts[0] != 0 || starts[rows] != sequence.Entries || sequence.Ordinals.Length != sequence.Entries)
        {
            return $"{rows} rows that begin at 0 and end with the {sequence.Entries} entries, a page to each";
        }

        if (sequence.FirstOpenPage < 0 || sequence.FirstOpenPage > pages || sequence.Steps < 0)
        {
            return $"a first open page of 0..{pages}, got {sequence.FirstOpenPage}";
        }

        if (sequence.Metadata.Count > SnapshotLimits.Metadata || sequence.Scores.Count > SnapshotLimits.ScoreColumns)
        {
            return $"at most {SnapshotLimits.Metadata} pieces of metadata and {SnapshotLimits.ScoreColumns} columns of scores";
        }

        if (Texts(sequence).Select(SnapshotLimits.Flaw).FirstOrDefault(flaw => flaw is not null) is { } text)
        {
            return $"names and metadata of {text}";
        }

        if (sequence.Scores.FirstOrDefault(column => column.Values.Length != sequence.Entries && column.Values.Length != rows) is { } odd)
        {
            return $"scores '{odd.Name}' for {sequence.Entries} entries or {rows} rows, got {odd.Values.Length}";
        }

        for (int row = 0; row < rows; row++)
        {
            if (starts[row] > starts[row + 1] || starts[row] < 0)
            {
                return $"rows that follow each other, row {row} does not";
            }

            string? flaw = FirstFlaw(content, sequence, starts[row], starts[row + 1], content.LayerClasses[row / geometry.KvHeads] | (1 << KernelShape.Open), pages);
            if (flaw is not null)
            {
                return $"row {row}: {flaw}";
            }
        }

        return null;
    }

    // A text that is read back as another one would be lost, or would make two sequences one.
    private static IEnumerable<string?> Texts(SnapshotSequence sequence) =>
        [sequence.Id, sequence.Tenant, sequence.Adapter, .. sequence.Metadata.Keys, .. sequence.Metadata.Values, .. sequence.Scores.Select(column => column.Name)];

    private static string? FirstFlaw(SnapshotContent content, SnapshotSequence sequence, int first, int end, int classes, int pages)
    {
        if (first < 0 || end > sequence.Entries)
        {
            return "entries that exist";
        }

        ReadOnlySpan<int> indexes = sequence.PageIndexes.Span, ordinals = sequence.Ordinals.Span;
        ReadOnlySpan<byte> pageClasses = content.PageClasses.Span;
        for (int entry = first; entry < end; entry++)
        {
            int least = entry == first ? 0 : indexes[entry - 1] + 1;
            if (indexes[entry] < least || indexes[entry] >= pages)
            {
                return $"page indexes that ascend below {pages}, got {indexes[entry]}";
            }

            if ((uint)ordinals[entry] >= (uint)content.Pages)
            {
                return $"pages below {content.Pages}, got {ordinals[entry]}";
            }

            if ((classes & (1 << pageClasses[ordinals[entry]])) == 0)
            {
                return $"pages of the layer's classes, got class {pageClasses[ordinals[entry]]}";
            }
        }

        return null;
    }
}
