using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;

namespace KvCacheGpu;

/// <summary>The names of one snapshot's files: SHA-256 of tenant and name in hexadecimal, then their kind.</summary>
/// <remarks>
/// <code>
/// LOCK                              never deleted; a writer holds its flock
/// (hash).CURRENT                    which generation is the newest
/// (hash).MANIFEST-(generation)      generation in 16 hexadecimal digits
/// (hash).BLOCKS-(generation)
/// (any of these).tmp                being written, or left by a writer that died
/// </code>
/// </remarks>
internal readonly record struct StoreNames(string Hash)
{
    public const string Lock = "LOCK";
    public const string Temporary = ".tmp";

    private const string CurrentEnd = ".CURRENT";
    private const int HashDigits = 64;
    private const int GenerationDigits = 16;

    private static readonly SearchValues<char> Digits = SearchValues.Create("0123456789abcdef");

    public string Current => Hash + CurrentEnd;

    public string Manifest(long generation) => $"{ManifestStart}{generation:x16}";

    public string Blocks(long generation) => $"{BlocksStart}{generation:x16}";

    private string ManifestStart => $"{Hash}.MANIFEST-";

    private string BlocksStart => $"{Hash}.BLOCKS-";

    /// <summary>The files of a snapshot: SHA-256 over "KvCacheGpu snapshot name" | bytes of the tenant, int32, -1 for none | its UTF-8 | the name's UTF-8.</summary>
    public static StoreNames Of(SnapshotName name)
    {
        var writer = new SectionWriter();
        writer.Bytes("KvCacheGpu snapshot name"u8);
        writer.Text(name.Tenant);
        writer.Bytes(KvText.Strict.GetBytes(name.Name));
        return new StoreNames(Convert.ToHexStringLower(SHA256.HashData(writer.Written)));
    }

    /// <summary>The snapshot whose CURRENT a file is, or null.</summary>
    public static StoreNames? OfCurrent(string file)
    {
        bool isCurrent = file.Length == HashDigits + CurrentEnd.Length && file.EndsWith(CurrentEnd, StringComparison.Ordinal);
        return isCurrent && IsOurs(file) ? new StoreNames(file[..HashDigits]) : null;
    }

    /// <summary>The snapshot that a file is of, or null.</summary>
    public static StoreNames? OfFile(string file) => IsOurs(file) ? new StoreNames(file[..HashDigits]) : null;

    /// <summary>Returns true if a file is left from writing. Under the lock nobody writes it.</summary>
    public static bool IsTemporary(string file) => file.EndsWith(Temporary, StringComparison.Ordinal) && IsOurs(file);

    public long? GenerationOfManifest(string file) => Generation(file, ManifestStart);

    public long? GenerationOfBlocks(string file) => Generation(file, BlocksStart);

    private static bool IsOurs(string file) =>
        file.Length > HashDigits && file[HashDigits] == '.' && !file.AsSpan(0, HashDigits).ContainsAnyExcept(Digits);

    private static long? Generation(string file, string start) =>
        file.Length == start.Length + GenerationDigits
            && file.StartsWith(start, StringComparison.Ordinal)
            && long.TryParse(file.AsSpan(start.Length), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out long generation)
            && generation > 0
            ? generation
            : null;
}
