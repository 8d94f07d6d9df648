namespace KvCacheGpu.Import;

/// <summary>The most that an old file may ask of its reader. Every length is also checked against the bytes that remain, before anything is allocated for it.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record ImportLimits
{
    /// <summary>Bytes of pickle streams, without the content of byte strings. Default: 64 MiB.</summary>
    public long PickleBytes { get; init; } = 64L << 20;

    /// <summary>Opcodes, nested streams included. No object may unfold to more values than that either. Default: 5,000,000.</summary>
    public long Opcodes { get; init; } = 5_000_000;

    /// <summary>Entries of a stream's memo, and the largest index. Default: 1,000,000.</summary>
    public int MemoEntries { get; init; } = 1_000_000;

    /// <summary>Values on a stream's stack. Default: 1,000,000.</summary>
    public int StackValues { get; init; } = 1_000_000;

    /// <summary>Marks on a stream's stack. Default: 256.</summary>
    public int MarkDepth { get; init; } = 256;

    /// <summary>Containers within containers. Default: 64.</summary>
    public int Depth { get; init; } = 64;

    /// <summary>Bytes of a text in UTF-8. Default: 1 MiB.</summary>
    public int TextBytes { get; init; } = 1 << 20;

    /// <summary>Bytes of an integer; 16 at most. Default: 16.</summary>
    public int IntegerBytes { get; init; } = 16;

    /// <summary>Bytes of a global's module, and of its name. Default: 256.</summary>
    public int GlobalNameBytes { get; init; } = 256;

    /// <summary>Tensors and arrays, each counted wherever it occurs. Default: 100,000.</summary>
    public int Tensors { get; init; } = 100_000;

    /// <summary>Members of an archive. Default: 1,000,000.</summary>
    public int Members { get; init; } = 1_000_000;

    /// <summary>Bytes of all tensors, each counted as if it were copied: bytes that several tensors share count for each of them. Default: 64 GiB.</summary>
    public long TensorBytes { get; init; } = 64L << 30;

    /// <summary>
    /// Pieces that <see cref="MappedCache"/> cuts tensors into: one for each layer and row of a batch. There are also at most as many as
    /// the file has groups of 16 bytes, which is the least that keys or values of a head take. Default: 1,000,000.
    /// </summary>
    public int Pieces { get; init; } = 1_000_000;
}
