namespace KvCacheGpu;

/// <summary>The kinds of sections.</summary>
internal enum SectionKind
{
    Description = 1,
    PageTable = 2,
    Sequences = 3,
    Pages = 4,
}

/// <summary>A section: consecutive blocks.</summary>
internal readonly record struct SectionRecord(SectionKind Kind, int Version, int FirstBlock, int Blocks, long Length);

/// <summary>A block: where it lies in the blocks file, how it is stored, and XxHash128 of its decoded bytes (version 0: XxHash64).</summary>
internal readonly record struct BlockRecord(long Offset, int Stored, int Decoded, bool IsCompressed, UInt128 Hash);

/// <summary>A manifest of any version, read and checked, or to be written: the snapshot's name and size, and where its blocks lie.</summary>
internal sealed record SnapshotManifest
{
    public int Version { get; init; } = FileHeader.NewestVersion;

    public long Generation { get; init; }

    public UInt128 Salt { get; init; }

    public bool IsEncrypted { get; init; }

    public required SnapshotName Name { get; init; }

    public DateTimeOffset Created { get; init; }

    public long Sequences { get; init; }

    public long Tokens { get; init; }

    public long Pages { get; init; }

    public required IReadOnlyList<SectionRecord> Sections { get; init; }

    public required IReadOnlyList<BlockRecord> Blocks { get; init; }

    /// <summary>Bytes of the blocks file.</summary>
    public long BlocksLength { get; init; }

    /// <summary>Bytes of the manifest itself.</summary>
    public long ManifestLength { get; init; }

    /// <summary>Its self-hash, which CURRENT names.</summary>
    public UInt128 Hash { get; init; }

    public long DecodedBytes => Sections.Sum(section => section.Length);

    /// <summary>The part of it that hosts see.</summary>
    /// <param name="fileName">The beginning of its files' names.</param>
    /// <param name="notice">Why it is not the newest generation, or null.</param>
    public SnapshotInfo ToInfo(string fileName, string? notice) => new()
    {
        Name = Name,
        FileName = fileName,
        Generation = Generation,
        Version = Version,
        Created = Created,
        Sequences = Sequences,
        Tokens = Tokens,
        Pages = Pages,
        Bytes = DecodedBytes,
        StoredBytes = BlocksLength + ManifestLength,
        IsEncrypted = IsEncrypted,
        Notice = notice,
    };

    public SectionRecord Section(SectionKind kind) => Sections.First(section => section.Kind == kind);
}
