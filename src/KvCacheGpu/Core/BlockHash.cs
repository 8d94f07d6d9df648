using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace KvCacheGpu;

/// <summary>
/// Names a block of tokens together with everything before it: SHA-256 over the parent's hash and the block's token ids. The parent of a
/// first block is the hash of its <see cref="PrefixNamespace"/>. Equal hashes mean equal prefixes in the same namespace.
/// </summary>
/// <remarks>
/// <code>
/// 'B' | parent, 32 bytes | count of ids, int32 | ids, int32 each        all little end first
/// </code>
/// Thread safety: it never changes.
/// </remarks>
public readonly record struct BlockHash
{
    /// <summary>Bytes of a hash.</summary>
    public const int Bytes = SHA256.HashSizeInBytes;

    private const byte BlockDomain = (byte)'B';
    private const int HeaderBytes = 1 + Bytes + sizeof(int);

    private readonly ulong _first;
    private readonly ulong _second;
    private readonly ulong _third;
    private readonly ulong _fourth;

    /// <summary>True if this is no hash: the value of a block that was never published.</summary>
    public bool IsNull => this == default;

    /// <summary>The hash in hexadecimal, 64 digits.</summary>
    public override string ToString() => Convert.ToHexStringLower(MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHash>(in this)));

    /// <inheritdoc/>
    public override int GetHashCode() => (int)_first;

    internal static BlockHash Of(ReadOnlySpan<byte> content)
    {
        BlockHash hash = default;
        SHA256.HashData(content, MemoryMarshal.AsBytes(new Span<BlockHash>(ref hash)));
        return hash;
    }

    /// <summary>The hash of a block that follows <paramref name="parent"/>.</summary>
    internal static BlockHash Next(in BlockHash parent, ReadOnlySpan<int> ids)
    {
        int length = HeaderBytes + (ids.Length * sizeof(int));
        Span<byte> content = stackalloc byte[length];
        content[0] = BlockDomain;
        MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHash>(in parent)).CopyTo(content[1..]);
        BinaryPrimitives.WriteInt32LittleEndian(content[(1 + Bytes)..], ids.Length);
        for (int i = 0; i < ids.Length; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(content[(HeaderBytes + (i * sizeof(int)))..], ids[i]);
        }

        return Of(content);
    }

    /// <summary>The hashes of consecutive blocks; the last may hold fewer tokens than a page.</summary>
    internal static void Chain(BlockHash parent, ReadOnlySpan<int> ids, int pageTokens, Span<BlockHash> hashes)
    {
        for (int i = 0; i < hashes.Length; i++)
        {
            int first = i * pageTokens;
            parent = hashes[i] = Next(parent, ids[first..Math.Min(ids.Length, first + pageTokens)]);
        }
    }
}
