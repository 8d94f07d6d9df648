using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu;

/// <summary>Names of keys, and what their values are: two bytes in front of a block, or of the encrypted block.</summary>
/// <remarks>
/// <code>
/// key      prefix | 64 hex digits                                   plain
/// key      prefix | 8 hex digits that name the encryption key | ':' | 64 hex digits
/// value    1 | 0 | block                                            plain
/// value    1 | 1 | nonce, 12 bytes | tag, 16 bytes | block under AES-256-GCM; the first two bytes and the key's text (UTF-8) are authenticated with it
/// </code>
/// The first byte is the version. A later version must give its keys other names: what is under a name and is not framed so is taken for damage, and deleted.
/// </remarks>
internal sealed class BlockFrame
{
    private const int HeaderBytes = 2;
    private const int NonceBytes = 12;
    private const int TagBytes = 16;
    private const byte Version = 1;

    private readonly string _prefix;
    private readonly byte[]? _key;

    public BlockFrame(string prefix, ReadOnlyMemory<byte>? key)
    {
        _key = key?.ToArray();
        _prefix = _key is null ? prefix : $"{prefix}{NameOf(_key)}:";
    }

    /// <summary>Bytes of a value beside those of its block.</summary>
    public int Overhead => _key is null ? HeaderBytes : HeaderBytes + NonceBytes + TagBytes;

    /// <summary>The name of a block's key.</summary>
    public string KeyOf(in BlockHash hash) => $"{_prefix}{hash}";

    /// <summary>Makes the value of a block.</summary>
    /// <param name="key">Name of its key.</param>
    /// <param name="block">The block.</param>
    /// <param name="value">Receives the value: <see cref="Overhead"/> bytes more than the block has.</param>
    public void Close(string key, ReadOnlySpan<byte> block, Span<byte> value)
    {
        value[0] = Version;
        value[1] = _key is null ? (byte)0 : (byte)1;
        if (_key is null)
        {
            block.CopyTo(value[HeaderBytes..]);
            return;
        }

        Span<byte> nonce = value.Slice(HeaderBytes, NonceBytes);
        RandomNumberGenerator.Fill(nonce);
        using AesGcm cipher = new(_key, TagBytes);
        cipher.Encrypt(nonce, block, value[Overhead..], value.Slice(HeaderBytes + NonceBytes, TagBytes), Associated(value, key));
    }

    /// <summary>Takes the block out of a value.</summary>
    /// <param name="key">Name of its key.</param>
    /// <param name="value">The value.</param>
    /// <param name="block">Receives the block, if it is one of this length.</param>
    /// <returns>False if the value is not such a block; the room for the block has no meaning then.</returns>
    public bool TryOpen(string key, ReadOnlySpan<byte> value, Span<byte> block)
    {
        if (value.Length != Overhead + block.Length || value[0] != Version || value[1] != (_key is null ? 0 : 1))
        {
            return false;
        }

        if (_key is null)
        {
            value[HeaderBytes..].CopyTo(block);
            return true;
        }

        try
        {
            using AesGcm cipher = new(_key, TagBytes);
            cipher.Decrypt(value.Slice(HeaderBytes, NonceBytes), value[Overhead..], value.Slice(HeaderBytes + NonceBytes, TagBytes), block, Associated(value, key));
            return true;
        }
        catch (AuthenticationTagMismatchException)
        {
            return false;
        }
    }

    private static byte[] Associated(ReadOnlySpan<byte> value, string key) => [.. value[..HeaderBytes], .. Encoding.UTF8.GetBytes(key)];

    // Tells keys apart without telling anything of them: a digest of 32 random bytes.
    private static string NameOf(byte[] key) => Convert.ToHexStringLower(SHA256.HashData([.. "kvcache encryption key"u8, .. key]).AsSpan(0, 4));
}
