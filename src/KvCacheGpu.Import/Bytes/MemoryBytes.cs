namespace KvCacheGpu.Import;

/// <summary>Bytes in memory.</summary>
internal sealed class MemoryBytes(ReadOnlyMemory<byte> memory) : ByteSource
{
    /// <inheritdoc/>
    public override long Length => memory.Length;

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target) => memory.Span.Slice((int)offset, target.Length).CopyTo(target);
}
