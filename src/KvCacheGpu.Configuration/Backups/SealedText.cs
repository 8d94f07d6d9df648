using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace KvCacheGpu.Configuration;

/// <summary>A JSON document under a line that names its kind, its version and its SHA-256: what backups, journals and runs are kept in.</summary>
/// <remarks>
/// <code>
/// kvcache-backup 1 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n
/// {"id":"20261124-170512-345", ... }
/// </code>
/// </remarks>
internal static class SealedText
{
    public const int MostBytes = 16 << 20;
    private const int Version = 1;

    public static FileImage Write<T>(string kind, T document, JsonTypeInfo<T> type)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(document, type);
        byte[] head = Encoding.UTF8.GetBytes($"kvcache-{kind} {Version} {Hash(json)}\n");
        return new FileImage([.. head, .. json], 0x180); // 0600
    }

    /// <exception cref="KvCorruptionException">It is not what was written (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library wrote it (E007).</exception>
    public static T Read<T>(string kind, string path, FileImage image, JsonTypeInfo<T> type)
    {
        int end = Array.IndexOf(image.Bytes, (byte)'\n');
        string[] head = end < 0 ? [] : Encoding.UTF8.GetString(image.Bytes.AsSpan(0, end)).Split(' ');
        if (head.Length != 3 || head[0] != $"kvcache-{kind}" || !int.TryParse(head[1], NumberStyles.None, CultureInfo.InvariantCulture, out int version))
        {
            throw new KvCorruptionException(path, $"a {kind} of kvcache", "something else");
        }

        byte[] json = image.Bytes[(end + 1)..];
        string hash = Hash(json);
        if (version > Version)
        {
            throw new KvNewerVersionException(path, $"version {Version}", $"{version}");
        }

        if (version < 1 || hash != head[2])
        {
            throw new KvCorruptionException(path, $"SHA-256 {head[2]}", hash);
        }

        try
        {
            return JsonSerializer.Deserialize(json, type) ?? throw new JsonException("null");
        }
        catch (JsonException error)
        {
            throw new KvCorruptionException(path, $"a {kind} of kvcache", "other JSON", error);
        }
    }

    public static string Hash(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));
}
