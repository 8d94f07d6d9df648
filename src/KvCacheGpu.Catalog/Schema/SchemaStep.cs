using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu.Catalog;

/// <summary>One step of the schema, up to <see cref="Version"/> or down from it, in one transaction.</summary>
/// <param name="Version">The version that it leads to, or from.</param>
/// <param name="IsUp">Whether it goes up.</param>
/// <param name="Checksum">SHA-256 of its statements up and down, in hexadecimal.</param>
/// <param name="Note">What it takes away and where that is kept; null where it takes nothing.</param>
/// <param name="Statements">Its SQL.</param>
public sealed record SchemaStep(int Version, bool IsUp, string Checksum, string? Note, IReadOnlyList<string> Statements)
{
    // v1 is what version 1.x made, v2 what 2.0 and 2.1 made, v3 is ours.
    internal const int Newest = 3;

    // Below it lies what is not ours to drop.
    internal const int Oldest = 1;

    internal static SchemaStep Read(Dialect dialect, int version, bool isUp)
    {
        string up = dialect.Resource($"{version}.up");
        string down = version > Oldest ? dialect.Resource($"{version}.down") : string.Empty;
        string checksum = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{up}\n{down}")));

        // Statements are paragraphs: triggers have semicolons of their own.
        string[] statements = (isUp ? up : down).Trim().Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        string? note = !isUp && statements[0].StartsWith("-- ", StringComparison.Ordinal) ? statements[0].Split('\n')[0][3..] : null;
        return new SchemaStep(version, isUp, checksum, note, statements);
    }
}

/// <summary>Where a database's schema stands.</summary>
/// <param name="Version">Its version: 0 without the table, 1 of 1.x, 2 of 2.0 and 2.1, 3 ours.</param>
/// <param name="Newest">The newest version that this library knows.</param>
/// <param name="IsRecorded">Whether the table kvcache_schema says so; otherwise the columns do.</param>
/// <param name="Differences">What is not as that version's steps leave it; nothing runs on it until that is mended.</param>
public sealed record SchemaStatus(int Version, int Newest, bool IsRecorded, IReadOnlyList<string> Differences);
