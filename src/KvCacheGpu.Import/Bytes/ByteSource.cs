namespace KvCacheGpu.Import;

/// <summary>Bytes that are read where they lie, by offset. Only what is asked for comes into memory.</summary>
internal abstract class ByteSource
{
    /// <summary>Its length.</summary>
    public abstract long Length { get; }

    /// <summary>Where its first byte stands in the file; 0 for bytes that are in no file.</summary>
    public virtual long Origin => 0;

    /// <summary>Fills <paramref name="target"/> from an offset; the caller has checked that so much is there.</summary>
    public abstract void Read(long offset, Span<byte> target);

    /// <summary>A part of it; the caller has checked that it is there.</summary>
    public virtual ByteSource Slice(long offset, long length) => new SlicedBytes(this, offset, length);

    /// <summary>All of it, for what is known to be short.</summary>
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
