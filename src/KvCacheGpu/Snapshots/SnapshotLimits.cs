using System.Text;

namespace KvCacheGpu;

/// <summary>
/// The most that a snapshot holds. What a file declares is held against these and against the file's own length before any memory is
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

    internal static void CheckText(string? text, string name)
    {
        if (text is not null && Encoding.UTF8.GetByteCount(text) > TextBytes)
        {
            throw new ArgumentException($"expected at most {TextBytes} bytes of UTF-8, got {Encoding.UTF8.GetByteCount(text)}", name);
        }
    }
}
