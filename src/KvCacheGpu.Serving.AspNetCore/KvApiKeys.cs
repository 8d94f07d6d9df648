using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>API keys, and the tenant of each. Only the SHA-256 of a key is kept. Thread safety: it never changes.</summary>
public sealed class KvApiKeys
{
    private const int MostBytes = 4 << 20;

    private readonly (byte[] Hash, string Tenant)[] _keys;

    /// <summary>Takes keys.</summary>
    /// <param name="tenants">Tenants by their keys; several keys may have one tenant.</param>
    /// <exception cref="ArgumentException">No key, or an empty key or tenant.</exception>
    public KvApiKeys(IEnumerable<KeyValuePair<string, string>> tenants)
    {
        ArgumentNullException.ThrowIfNull(tenants);
        _keys = [.. tenants.Select(pair => (Hash(Checked(pair.Key)), Checked(pair.Value)))];
        if (_keys.Length == 0)
        {
            throw new ArgumentException("expected at least one key, got none", nameof(tenants));
        }

        static string Checked(string text) => !string.IsNullOrWhiteSpace(text) ? text : throw new ArgumentException("expected keys and tenants that are not empty", nameof(tenants));
    }

    /// <summary>Reads a file: <c>{ "key": "tenant", ... }</c> in UTF-8.</summary>
    /// <param name="file">The file.</param>
    /// <exception cref="InvalidDataException">It is no such file. The message does not tell its contents.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static KvApiKeys Load(string file)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        if (PathKind.FlawOf(file) is { } flaw)
        {
            throw new IOException($"expected a regular file, got {flaw}");
        }

        using FileStream stream = File.OpenRead(file);
        if (stream.Length > MostBytes)
        {
            throw new InvalidDataException($"expected a file of keys of at most {MostBytes} bytes, got {stream.Length}");
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(stream, new JsonDocumentOptions { AllowDuplicateProperties = false });
            return new KvApiKeys([.. document.RootElement.EnumerateObject().Select(pair => KeyValuePair.Create(pair.Name, pair.Value.GetString()!))]);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException)
        {
            // Messages of the reader quote what it read, which is a secret.
            throw new InvalidDataException("expected a file { \"key\": \"tenant\", ... } with at least one key, none empty and none twice");
        }
    }

    /// <summary>Finds whose a key is, in a time that does not tell which key was nearly right.</summary>
    /// <param name="key">The key.</param>
    /// <param name="tenant">Its tenant; null if there is no such key.</param>
    public bool TryFind(string key, out string? tenant)
    {
        ArgumentNullException.ThrowIfNull(key);
        byte[] hash = Hash(key);
        tenant = null;
        foreach ((byte[] own, string whose) in _keys)
        {
            tenant = CryptographicOperations.FixedTimeEquals(own, hash) ? whose : tenant;
        }

        return tenant is not null;
    }

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
