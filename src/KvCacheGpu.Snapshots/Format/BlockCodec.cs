using System.Buffers.Binary;
using System.IO.Hashing;
using System.Security.Cryptography;
using K4os.Compression.LZ4;

namespace KvCacheGpu;

/// <summary>Encodes blocks for the disk and back: by LZ4 if that makes them smaller, then by AES-256-GCM if there is a key. Each thread has its own.</summary>
/// <remarks>
/// <code>
/// stored block:  LZ4 block or the bytes themselves | tag, 16, when encrypted
/// key            HKDF-SHA256(secret, salt of the files, "KvCacheGpu snapshot 1"): one for every save
/// nonce          0 u32 | position i64       the block's number; -1 the manifest
/// additional     SHA-256 of tenant and name, 32 | generation i64 | position i64 | compressed u8 | decoded i32
/// </code>
/// So a block that is moved, or taken from another snapshot, tenant or generation, does not open.
/// </remarks>
internal sealed class BlockCodec : IDisposable
{
    public const int TagBytes = 16;
    public const long ManifestPosition = -1;

    private const int NonceBytes = 12;
    private const int AdditionalBytes = 32 + 8 + 8 + 1 + 4;

    private readonly AesGcm? _cipher;
    private readonly byte[] _name;
    private readonly long _generation;

    public BlockCodec(byte[] name, long generation, byte[]? key)
    {
        (_name, _generation) = (name, generation);
        _cipher = key is null ? null : new AesGcm(key, TagBytes);
    }

    public bool IsEncrypted => _cipher is not null;

    /// <summary>Bytes beside a block's content.</summary>
    public int Overhead => IsEncrypted ? TagBytes : 0;

    public static UInt128 HashOf(ReadOnlySpan<byte> decoded, int version) =>
        version == 0 ? ManifestFile0.HashOf(decoded) : XxHash128.HashToUInt128(decoded);

    /// <summary>Encodes a block into <paramref name="stored"/>, which has room for it and <see cref="Overhead"/>.</summary>
    public BlockRecord Encode(ReadOnlySpan<byte> decoded, Span<byte> stored, long position)
    {
        // A block that LZ4 makes less than a sixteenth smaller is stored as it is: LZ4 gives up if it runs out of this room.
        int length = LZ4Codec.Encode(decoded, stored[..(decoded.Length - (decoded.Length / 16))]);
        bool isCompressed = length > 0 && length < decoded.Length;
        if (!isCompressed)
        {
            decoded.CopyTo(stored);
            length = decoded.Length;
        }

        Encrypt(stored[..(length + Overhead)], position, isCompressed, decoded.Length);
        return new BlockRecord(0, length + Overhead, decoded.Length, isCompressed, XxHash128.HashToUInt128(decoded));
    }

    /// <summary>Decodes a block into exactly its length and verifies its hash; <paramref name="stored"/> is spoilt.</summary>
    public void Decode(Span<byte> stored, Span<byte> decoded, in BlockRecord block, long position, int version)
    {
        Decrypt(stored, position, block.IsCompressed, block.Decoded);
        ReadOnlySpan<byte> content = stored[..^Overhead];
        if (block.IsCompressed)
        {
            // The decoder may take an invalid block for a short one, and says nothing: zeros, the length and the hash say it.
            decoded.Clear();
            if (LZ4Codec.Decode(content, decoded) != decoded.Length)
            {
                throw Flaw(position, "what LZ4 wrote");
            }
        }
        else
        {
            content.CopyTo(decoded);
        }

        if (HashOf(decoded, version) != block.Hash)
        {
            throw Flaw(position, "bytes with the hash that the manifest names");
        }
    }

    /// <summary>A manifest's body as it is stored.</summary>
    public byte[] Seal(ReadOnlySpan<byte> body, long position)
    {
        byte[] stored = new byte[body.Length + Overhead];
        body.CopyTo(stored);
        Encrypt(stored, position, false, body.Length);
        return stored;
    }

    /// <summary>A manifest's body as it was.</summary>
    public byte[] Open(ReadOnlySpan<byte> stored, long position)
    {
        byte[] body = stored.ToArray();
        if (body.Length < Overhead)
        {
            throw Flaw(position, "an encrypted body");
        }

        Decrypt(body, position, false, body.Length - Overhead);
        return body[..^Overhead];
    }

    public void Dispose() => _cipher?.Dispose();

    private void Encrypt(Span<byte> stored, long position, bool isCompressed, int decoded)
    {
        if (_cipher is not null)
        {
            Span<byte> nonce = stackalloc byte[NonceBytes], additional = stackalloc byte[AdditionalBytes];
            Place(nonce, additional, position, isCompressed, decoded);
            _cipher.Encrypt(nonce, stored[..^TagBytes], stored[..^TagBytes], stored[^TagBytes..], additional);
        }
    }

    private void Decrypt(Span<byte> stored, long position, bool isCompressed, int decoded)
    {
        if (_cipher is null)
        {
            return;
        }

        Span<byte> nonce = stackalloc byte[NonceBytes], additional = stackalloc byte[AdditionalBytes];
        Place(nonce, additional, position, isCompressed, decoded);
        try
        {
            _cipher.Decrypt(nonce, stored[..^TagBytes], stored[^TagBytes..], stored[..^TagBytes], additional);
        }
        catch (CryptographicException)
        {
            throw Flaw(position, "bytes that this key opens in this place");
        }
    }

    private void Place(Span<byte> nonce, Span<byte> additional, long position, bool isCompressed, int decoded)
    {
        nonce[..4].Clear();
        BinaryPrimitives.WriteInt64LittleEndian(nonce[4..], position);
        _name.CopyTo(additional);
        BinaryPrimitives.WriteInt64LittleEndian(additional[32..], _generation);
        BinaryPrimitives.WriteInt64LittleEndian(additional[40..], position);
        additional[48] = isCompressed ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteInt32LittleEndian(additional[49..], decoded);
    }

    private static KvCorruptionException Flaw(long position, string expected) =>
        new(position == ManifestPosition ? "a snapshot's manifest" : $"block {position} of a snapshot", expected, "others");
}
