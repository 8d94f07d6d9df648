using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Description of a snapshot: geometry, page classes, sequences. The pages' bytes are streamed beside it (<see cref="SnapshotPageReader"/>,
/// <see cref="ISnapshotTarget"/>). Must not change while it is saved.
/// </summary>
/// <remarks>Thread safety: it never changes, as long as nobody changes the memory that it refers to.</remarks>
public sealed record SnapshotContent
{
    /// <summary>Shape of the model.</summary>
    public required KvGeometry Geometry { get; init; }

    /// <summary>Layouts by page class: open pages first, then those of sealed pages.</summary>
    public required IReadOnlyList<PageLayout> Classes { get; init; }

    /// <summary>For each layer the classes that its pages may have, bit c for class c; the class of open pages always belongs to them.</summary>
    public required IReadOnlyList<int> LayerClasses { get; init; }

    /// <summary>Seed of the rotation's signs.</summary>
    public required ulong RotationSeed { get; init; }

    /// <summary>Version of the tables of levels that T and V pages refer to. A cache reads version 1 too. The default value is <see cref="Levels.Version"/>.</summary>
    public int LevelsVersion { get; init; } = Levels.Version;

    /// <summary>The model that computed the keys and values, by the host's own fingerprint; null if the host did not say.</summary>
    public string? ModelFingerprint { get; init; }

    /// <summary>The sequences.</summary>
    public required IReadOnlyList<SnapshotSequence> Sequences { get; init; }

    /// <summary>Class of each page, by ordinal.</summary>
    public required ReadOnlyMemory<byte> PageClasses { get; init; }

    /// <summary>The engine's notes on each page (how often it was encoded), by ordinal. Empty, the default, means 0 for all.</summary>
    public ReadOnlyMemory<byte> PageStates { get; init; }

    /// <summary>Pages.</summary>
    public int Pages => PageClasses.Length;

    /// <summary>Bytes of all pages.</summary>
    public long PageBytes
    {
        get
        {
            long bytes = 0;
            foreach (byte pageClass in PageClasses.Span)
            {
                bytes = checked(bytes + Classes[pageClass].Bytes);
            }

            return bytes;
        }
    }

    /// <summary>Bytes of one page.</summary>
    public int BytesOf(int ordinal) => Classes[PageClasses.Span[ordinal]].Bytes;

    /// <summary>Says what of the content does not hold together first, as "... pages below 7, got 9"; null if all of it does.</summary>
    public string? FirstFlaw() => ContentCheck.FirstFlaw(this);
}

/// <summary>
/// Copies pages into <paramref name="bytes"/>, one behind the other from <paramref name="firstOrdinal"/> on, until it is full; it ends
/// with a page. Called once for every page, in order, by one thread at a time.
/// </summary>
/// <param name="firstOrdinal">First page.</param>
/// <param name="bytes">Takes the bytes of whole pages.</param>
public delegate void SnapshotPageReader(int firstOrdinal, Span<byte> bytes);

/// <summary>Takes verified pages, whole ones, one behind the other from <paramref name="firstOrdinal"/> on.</summary>
/// <param name="firstOrdinal">First page.</param>
/// <param name="bytes">Bytes of the pages, valid during the call.</param>
public delegate void SnapshotPageSink(int firstOrdinal, ReadOnlySpan<byte> bytes);

/// <summary>Takes a snapshot that is loaded, and publishes nothing of it before <see cref="Complete"/>. Called by one thread at a time.</summary>
public interface ISnapshotTarget
{
    /// <summary>A snapshot begins whose description is verified: take room for its pages. May refuse by throwing.</summary>
    void Begin(SnapshotContent content);

    /// <summary>Whole pages, one behind the other from <paramref name="firstOrdinal"/> on, in order; each is verified.</summary>
    void Write(int firstOrdinal, ReadOnlySpan<byte> bytes);

    /// <summary>Everything came and was verified: publish it.</summary>
    void Complete();

    /// <summary>It ends here, after <see cref="Begin"/> was called: give back the room. An earlier generation may begin next.</summary>
    void Abandon();
}
