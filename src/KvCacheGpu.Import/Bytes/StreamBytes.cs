namespace KvCacheGpu.Import;

/// <summary>
/// A file, read by position. Short reads go through a small direct-mapped cache, so that a transposed view does not read a block per element.
/// </summary>
internal sealed class StreamBytes : ByteSource
{
    private const int BlockBytes = 16 << 10;
    private const int Blocks = 256;
    private const int ShortRead = 4 << 10;

    private readonly Stream _stream;
    private readonly byte[]?[] _blocks = new byte[]?[Blocks];
    private readonly long[] _held = new long[Blocks];
    private readonly Lock _lock = new();

    /// <summary>Reads a stream that can seek. It is the caller's to close.</summary>
    public StreamBytes(Stream stream)
    {
        (_stream, Length) = (stream, stream.Length);
        Array.Fill(_held, -1);
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target)
    {
        lock (_lock)
        {
            if (target.Length > ShortRead)
            {
                ReadWhole(offset, target);
                return;
            }

            while (target.Length > 0)
            {
                long block = offset / BlockBytes;
                int within = (int)(offset % BlockBytes);
                int count = Math.Min(target.Length, BlockBytes - within);
                Block(block).AsSpan(within, count).CopyTo(target);
                target = target[count..];
                offset += count;
            }
        }
    }

    private byte[] Block(long block)
    {
        long slot = block % Blocks;
        byte[] bytes = _blocks[slot] ??= new byte[Math.Min(BlockBytes, Length)];
        if (_held[slot] != block)
        {
            _held[slot] = -1;
            ReadWhole(block * BlockBytes, bytes.AsSpan(0, (int)Math.Min(BlockBytes, Length - (block * BlockBytes))));
            _held[slot] = block;
        }

        return bytes;
    }

    private void ReadWhole(long offset, Span<byte> target)
    {
        _stream.Position = offset;
        int read = _stream.ReadAtLeast(target, target.Length, throwOnEndOfStream: false);
        if (read < target.Length)
        {
            throw ImportException.Corrupt("file", offset, $"{Length} bytes, as when it was opened", $"its end {target.Length - read} bytes early");
        }
    }
}
