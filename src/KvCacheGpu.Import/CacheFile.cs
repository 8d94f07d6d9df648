namespace KvCacheGpu.Import;

/// <summary>
/// An old cache, open for reading: a pickle (protocols 2 to 5) or a file of torch.save (zip, legacy or tar). The whole file is
/// checked when it is opened; tensors stay in it until they are read. No code in it can run.
/// </summary>
/// <remarks>Thread safety: it and its tensors are used by one thread at a time.</remarks>
public sealed class CacheFile : IDisposable
{
    private const int StartBytes = 512;
    private const int BytesOfPiece = 16;

    private readonly IDisposable? _handle;

    private CacheFile(IDisposable? handle, CacheFormat format, PickleValue root, long mostPieces)
    {
        (_handle, Format, Root, MostPieces) = (handle, format, root, mostPieces);
        Tensors = PickleWalk.Tensors(root);
    }

    /// <summary>The kind of file.</summary>
    public CacheFormat Format { get; }

    /// <summary>Every tensor and array with its path, in the file's order.</summary>
    public IReadOnlyList<NamedTensor> Tensors { get; }

    internal PickleValue Root { get; }

    /// <summary>The most pieces into which its tensors may be cut.</summary>
    internal long MostPieces { get; }

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="buffers">Files of the buffers that protocol 5 kept out of the stream, in order; null for none.</param>
    /// <param name="limits">The most that the file may ask of its reader; the default limits if null.</param>
    /// <exception cref="ImportException">The file is corrupt or beyond a limit (E004), or of a kind that is not read here (E009).</exception>
    /// <exception cref="IOException">The file does not exist, or cannot be read.</exception>
    public static CacheFile Open(string path, IReadOnlyList<string>? buffers = null, ImportLimits? limits = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        OpenFiles files = new();
        try
        {
            return Read(files.Open(path), [.. (buffers ?? []).Select(files.Open)], limits ?? new ImportLimits(), files);
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <summary>Reads a stream that can seek.</summary>
    /// <param name="stream">The file. The caller closes it after the last tensor has been read.</param>
    /// <param name="limits">The most that the file may ask of its reader; the default limits if null.</param>
    /// <exception cref="ImportException">The file is corrupt or beyond a limit (E004), or of a kind that is not read here (E009).</exception>
    public static CacheFile Read(Stream stream, ImportLimits? limits = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return Read(new StreamBytes(stream), [], limits ?? new ImportLimits(), null);
    }

    /// <summary>Reads a file that is in memory.</summary>
    /// <param name="bytes">The file's bytes; they must not change while tensors are read.</param>
    /// <param name="buffers">The buffers that protocol 5 kept out of the stream, in order; null for none.</param>
    /// <param name="limits">The most that the file may ask of its reader; the default limits if null.</param>
    /// <exception cref="ImportException">The file is corrupt or beyond a limit (E004), or of a kind that is not read here (E009).</exception>
    public static CacheFile Read(ReadOnlyMemory<byte> bytes, IReadOnlyList<ReadOnlyMemory<byte>>? buffers = null, ImportLimits? limits = null) =>
        Read(new MemoryBytes(bytes), [.. (buffers ?? []).Select(b => new MemoryBytes(b))], limits ?? new ImportLimits(), null);

    /// <summary>True if a file begins as one of these formats does. It may still be refused when it is opened.</summary>
    /// <param name="start">The first 512 bytes, or all if there are fewer.</param>
    public static bool Recognises(ReadOnlySpan<byte> start) =>
        start.StartsWith("PK\x03\x04"u8) || (start.Length >= 2 && start[0] == (byte)Opcode.PROTO && start[1] is >= 2 and <= 5)
        || (start.Length >= 262 && start.Slice(257, 5).SequenceEqual("ustar"u8));

    /// <summary>Names a kind of file that is not read here by its first bytes, and says what to do about it; null if the kind is not known.</summary>
    /// <param name="start">The first 512 bytes, or all if there are fewer.</param>
    public static string? KindOf(ReadOnlySpan<byte> start) => ForeignFile.NameOf(start);

    /// <inheritdoc/>
    public void Dispose() => _handle?.Dispose();

    private static CacheFile Read(ByteSource file, ByteSource[] buffers, ImportLimits limits, IDisposable? handle)
    {
        ReadBudget budget = new(limits);
        long pieces = Math.Min(limits.Pieces, (file.Length + buffers.Sum(buffer => buffer.Length)) / BytesOfPiece);
        Span<byte> start = stackalloc byte[(int)Math.Min(StartBytes, file.Length)];
        file.Read(0, start);
        if (ForeignFile.NameOf(start) is { } foreign)
        {
            throw ImportException.Unsupported("file", 0, "a pickle of protocol 2 to 5, or a file of torch.save", foreign);
        }

        if (start.StartsWith("PK\x03\x04"u8))
        {
            return new CacheFile(handle, CacheFormat.TorchZip, ZipTorch.Read(file, budget), pieces);
        }

        if (TarArchive.Is(file))
        {
            return new CacheFile(handle, CacheFormat.TorchTar, TarTorch.Read(file, budget), pieces);
        }

        PickleMachine machine = new(file, budget, LegacyTorch.ReadNested) { Buffers = buffers };
        PickleValue root = machine.Run();
        if (LegacyTorch.IsMagic(root))
        {
            return new CacheFile(handle, CacheFormat.TorchLegacy, LegacyTorch.Read(machine, file), pieces);
        }

        if (machine.Input.Remaining > 0)
        {
            throw ImportException.Corrupt("STOP", machine.Input.Offset, "the file's end", $"{machine.Input.Remaining} bytes more");
        }

        return machine.BuffersUsed == buffers.Length
            ? new CacheFile(handle, CacheFormat.Pickle, root, pieces)
            : throw ImportException.Corrupt("buffers", null, $"{machine.BuffersUsed}, as the stream asks for", $"{buffers.Length}");
    }

    private sealed class OpenFiles : IDisposable
    {
        private readonly List<FileStream> _files = [];

        public StreamBytes Open(string path)
        {
            if (PathKind.FlawOf(path) is { } flaw)
            {
                throw ImportException.Unsupported(path, null, "a regular file", flaw);
            }

            // The stream needs no buffer of its own: bytes are read once, or through the cache above it.
            FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
            _files.Add(file);
            return new StreamBytes(file);
        }

        public void Dispose() => _files.ForEach(file => file.Dispose());
    }
}

/// <summary>A tensor and its place in the file.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Path">Keys and indices from the root on, as Python prints them: "/'layer.0'/1".</param>
/// <param name="Tensor">The tensor.</param>
public sealed record NamedTensor(string Path, ImportTensor Tensor);

/// <summary>The kind of file that an old cache is.</summary>
public enum CacheFormat
{
    /// <summary>A pickle, protocols 2 to 5.</summary>
    Pickle,

    /// <summary>torch.save since 1.6: a ZIP archive.</summary>
    TorchZip,

    /// <summary>torch.save before 1.6: pickles, then storages.</summary>
    TorchLegacy,

    /// <summary>torch.save of version 0.1: a tar archive.</summary>
    TorchTar,
}
