using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu;

/// <summary>The secret that snapshots are encrypted with: 32 bytes, from which each snapshot's own key is derived.</summary>
/// <remarks>Thread safety: it never changes, and may be used by several threads.</remarks>
public sealed class SnapshotKey
{
    /// <summary>Bytes of a key.</summary>
    public const int Bytes = 32;

    private readonly byte[] _secret;

    private SnapshotKey(byte[] secret) => _secret = secret;

    /// <summary>A key from an environment variable: 64 hexadecimal digits.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is no such variable.</exception>
    /// <exception cref="KvConfigurationException">It holds no key.</exception>
    public static SnapshotKey FromEnvironment(string variable)
    {
        ArgumentException.ThrowIfNullOrEmpty(variable);
        string? text = Environment.GetEnvironmentVariable(variable);
        return text is null
            ? throw new KvSnapshotNotFoundException("the snapshot key", $"an environment variable {variable}", "none")
            : Parse(text, $"environment variable {variable}");
    }

    /// <summary>A key from a file that nobody but its owner reads (0600 or 0400), no symlink: 32 bytes, or 64 hexadecimal digits.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is no such file.</exception>
    /// <exception cref="KvConfigurationException">Others may read it, or it holds no key.</exception>
    /// <exception cref="KvPersistenceException">It cannot be read.</exception>
    public static SnapshotKey FromFile(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        string whole = Path.GetFullPath(path);
        try
        {
            IStoreFiles files = StoreFiles.OfThisSystem;
            using var directory = new OpenFile(files, files.OpenDirectory(Path.GetDirectoryName(whole) ?? "/"));
            using OpenFile file = directory.Open(Path.GetFileName(whole), FileUse.Read);
            using var handle = new SafeFileHandle(file.Descriptor, ownsHandle: false);
            UnixFileMode mode = OperatingSystem.IsWindows() ? UnixFileMode.None : File.GetUnixFileMode(handle);
            UnixFileMode others = mode & ~(UnixFileMode.UserRead | UnixFileMode.UserWrite);
            if (others != 0)
            {
                throw new KvConfigurationException($"key file {path}", "mode 0600 or 0400", $"also {others}");
            }

            byte[] content = new byte[Math.Min(file.Length, 256)];
            file.Read(content, 0);
            return content.Length == Bytes ? new SnapshotKey(content) : Parse(Encoding.ASCII.GetString(content), $"key file {path}");
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            throw new KvSnapshotNotFoundException("the snapshot key", $"a file {path}", "none", error);
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException($"key file {path}", "32 bytes", error.Message, error);
        }
    }

    /// <summary>A key of 32 bytes, which are copied.</summary>
    public static SnapshotKey FromBytes(ReadOnlySpan<byte> secret) => secret.Length == Bytes
        ? new SnapshotKey(secret.ToArray())
        : throw new ArgumentException($"expected {Bytes} bytes, got {secret.Length}", nameof(secret));

    /// <summary>"key": never its bytes.</summary>
    public override string ToString() => "key";

    /// <summary>The key of one snapshot's files: HKDF-SHA256 with the files' salt.</summary>
    internal byte[] Derive(ReadOnlySpan<byte> salt)
    {
        byte[] key = new byte[Bytes];
        HKDF.DeriveKey(HashAlgorithmName.SHA256, _secret, key, salt, "KvCacheGpu snapshot 1"u8);
        return key;
    }

    private static SnapshotKey Parse(string text, string where)
    {
        text = text.Trim();
        return text.Length == 2 * Bytes && text.All(char.IsAsciiHexDigit)
            ? new SnapshotKey(Convert.FromHexString(text))
            : throw new KvConfigurationException(where, $"{2 * Bytes} hexadecimal digits", $"{text.Length} characters");
    }
}
