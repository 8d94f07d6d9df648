using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu.Import;

/// <summary>A file, read by position. Short reads go through a small direct-mapped cache, so that a transposed view does not read a block per element.</summary>
internal sealed class FileBytes : ByteSource, IDisposable
{
    private const int BlockBytes = 16 << 10;
    private const int Blocks = 256;
    private const int ShortRead = 4 << 10;

    private readonly SafeFileHandle _handle;
    private readonly byte[]?[] _blocks = new byte[]?[Blocks];
    private readonly long[] _held = new long[Blocks];
    private readonly Lock _lock = new();

    /// <summary>Opens a file for reading.</summary>
    public FileBytes(string path)
    {
        _handle = File.OpenHandle(path, options: FileOptions.RandomAccess);
        Length = RandomAccess.GetLength(_handle);
        Array.Fill(_held, -1);
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target)
    {
        if (target.Length > ShortRead)
        {
            ReadWhole(offset, target);
            return;
        }

        lock (_lock)
        {
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

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

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
        while (target.Length > 0)
        {
            int read = RandomAccess.Read(_handle, target, offset);
            if (read == 0)
            {
                throw ImportException.Corrupt("file", offset, $"{Length} bytes, as when it was opened", $"its end {target.Length} bytes early");
            }

            target = target[read..];
            offset += read;
        }
    }
}
