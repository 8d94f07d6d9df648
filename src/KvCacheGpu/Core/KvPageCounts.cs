namespace KvCacheGpu;

/// <summary>Live pages of a cache; a page that several sequences share counts once, and so does one that only stays for prefix reuse.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Open">Pages in full precision that may still be written.</param>
/// <param name="Sealed">Pages that never change again.</param>
public readonly record struct KvPageCounts(int Open, int Sealed)
{
    private readonly KvFormatPages[]? _byFormats;

    internal KvPageCounts(int open, int sealedPages, KvFormatPages[] byFormats)
        : this(open, sealedPages)
    {
        _byFormats = byFormats;
    }

    /// <summary>The same by formats, those without a page left out.</summary>
    public IReadOnlyList<KvFormatPages> ByFormats => _byFormats ?? [];

    /// <summary>True if all numbers are equal.</summary>
    public bool Equals(KvPageCounts other) => (Open, Sealed) == (other.Open, other.Sealed) && ByFormats.SequenceEqual(other.ByFormats);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Open, Sealed);
}

/// <summary>Live pages in one pair of formats.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Formats">The formats.</param>
/// <param name="Open">Pages that may still be written.</param>
/// <param name="Sealed">
/// Pages that never change again; among those in the open pages' formats are the ones that their own format could not hold.
/// </param>
/// <param name="Bytes">Bytes of them all.</param>
public readonly record struct KvFormatPages(KvFormats Formats, int Open, int Sealed, long Bytes);
