namespace KvCacheGpu;

/// <summary>An open file or directory of a store; what it reads and writes is whole.</summary>
internal readonly struct OpenFile(IStoreFiles files, int descriptor) : IDisposable
{
    public IStoreFiles Files { get; } = files;

    public int Descriptor { get; } = descriptor;

    public long Length => Files.Length(Descriptor);

    public OpenFile Open(string name, FileUse use) => new(Files, Files.Open(Descriptor, name, use));

    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int count = Files.Write(Descriptor, bytes, offset);
            if (count == 0)
            {
                throw new FileCallException("write", $"at {offset}", FileCallException.NoSpace);
            }

            bytes = bytes[count..];
            offset += count;
        }
    }

    /// <exception cref="KvCorruptionException">The file ends before.</exception>
    public void Read(Span<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int count = Files.Read(Descriptor, bytes, offset);
            if (count == 0)
            {
                throw new KvCorruptionException("a snapshot's file", $"{bytes.Length} more bytes", $"its end at {offset}");
            }

            bytes = bytes[count..];
            offset += count;
        }
    }

    public void Sync() => Files.Sync(Descriptor);

    public void Dispose() => Files.Close(Descriptor);
}
