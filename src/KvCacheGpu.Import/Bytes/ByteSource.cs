using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Bytes that are read in place, by offset. Only the bytes that are asked for come into memory.</summary>
internal abstract class ByteSource
{
    /// <summary>Number of bytes.</summary>
    public abstract long Length { get; }

    /// <summary>Offset of the first byte in the file; 0 for bytes that are in no file.</summary>
    public virtual long Origin => 0;

    /// <summary>Fills <paramref name="target"/> from an offset. The caller has checked that there are enough bytes.</summary>
    public abstract void Read(long offset, Span<byte> target);

    /// <summary>A part of the bytes. The caller has checked that it lies within them.</summary>
    public virtual ByteSource Slice(long offset, long length) => new SlicedBytes(this, offset, length);

    /// <summary>All bytes, for a source that is known to be short.</summary>
    public byte[] ToArray()
    {
        byte[] bytes = new byte[Length];
        Read(0, bytes);
        return bytes;
    }

    private sealed class SlicedBytes(ByteSource whole, long start, long length) : ByteSource
    {
        public override long Length => length;

        public override long Origin => whole.Origin + start;

        public override void Read(long offset, Span<byte> target) => whole.Read(start + offset, target);

        public override ByteSource Slice(long offset, long length) => new SlicedBytes(whole, start + offset, length);
    }
}

/// <summary>Bytes in memory.</summary>
internal sealed class MemoryBytes(ReadOnlyMemory<byte> memory) : ByteSource
{
    /// <inheritdoc/>
    public override long Length => memory.Length;

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target) => memory.Span.Slice((int)offset, target.Length).CopyTo(target);
}

/// <summary>The Latin-1 bytes of a text, which is never copied whole: protocol 2 writes byte strings as such texts, and a stream may ask for one a million times.</summary>
internal sealed class Latin1Bytes(string text) : ByteSource
{
    /// <inheritdoc/>
    public override long Length => text.Length;

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target) => Encoding.Latin1.GetBytes(text.AsSpan((int)offset, target.Length), target);
}
