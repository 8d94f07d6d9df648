using System.Text;

namespace KvCacheGpu.Import;

/// <summary>A text as Latin-1 bytes, never copied whole: protocol 2 writes byte strings so, and a stream may ask for one a million times.</summary>
internal sealed class Latin1Bytes(string text) : ByteSource
{
    /// <inheritdoc/>
    public override long Length => text.Length;

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> target) => Encoding.Latin1.GetBytes(text.AsSpan((int)offset, target.Length), target);
}
