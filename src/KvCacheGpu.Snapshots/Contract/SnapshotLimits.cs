using System.Text;

namespace KvCacheGpu;

/// <summary>
/// The most that a snapshot holds. Every number that a file declares is compared with these and with the file's own length before any memory is
/// taken for it.
/// </summary>
public static class SnapshotLimits
{
    /// <summary>Bytes of a manifest: 24 for each block of about a megabyte, so that a snapshot ends at some 2.7 TB.</summary>
    public const int ManifestBytes = 64 << 20;

    /// <summary>Decoded bytes of one block. The largest page (1,024 tokens, width 576, F32) takes 4.5 MiB.</summary>
    public const int BlockBytes = 8 << 20;

    /// <summary>Decoded bytes of one table: sequences with their token ids, entries and scores.</summary>
    public const int TableBytes = 1 << 30;

    /// <summary>Pages.</summary>
    public const int Pages = 1 << 28;

    /// <summary>Sequences.</summary>
    public const int Sequences = 1 << 20;

    /// <summary>UTF-8 bytes of a name, an id, a tenant, a piece of metadata.</summary>
    public const int TextBytes = 64 << 10;

    /// <summary>Pieces of metadata of one sequence.</summary>
    public const int Metadata = 1024;

    /// <summary>Columns of scores of one sequence.</summary>
    public const int ScoreColumns = 64;

    /// <summary>Returns the text, which may be null, if a snapshot can hold it: at most <see cref="TextBytes"/> of UTF-8, which can say all of it.</summary>
    /// <exception cref="ArgumentException">It cannot.</exception>
    public static string? Checked(string? text, string name) =>
        Flaw(text) is { } flaw ? throw new ArgumentException($"expected {flaw}", name) : text;

    /// <summary>Says what a text should be and is not; null if a snapshot can hold it.</summary>
    internal static string? Flaw(string? text) =>
        KvText.Flaw(text) is { } flaw ? $"text that UTF-8 can say, got {flaw}"
        : text is not null && Encoding.UTF8.GetByteCount(text) is > TextBytes and var bytes ? $"at most {TextBytes} bytes of UTF-8, got {bytes}"
        : null;
}
