using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu.Catalog;

/// <summary>One step of the schema, up to <see cref="Version"/> or down from it, in one transaction.</summary>
/// <remarks>
/// It asks for what it needs, not for one shape: parts that are there are used as they are, and only parts that a step made go away with it.
/// </remarks>
/// <param name="Version">The version that it leads to, or from.</param>
/// <param name="IsUp">Whether it goes up.</param>
/// <param name="Checksum">SHA-256 of its SQL, in hexadecimal.</param>
/// <param name="Note">What it takes away and where that is kept; null where it takes nothing.</param>
/// <param name="Statements">The SQL that it runs on this database.</param>
public sealed record SchemaStep(int Version, bool IsUp, string Checksum, string? Note, IReadOnlyList<string> Statements)
{
    // v1 is what version 1.x made, v2 what 2.0 and 2.1 made, v3 is ours.
    internal const int Newest = 3;

    // Below it lies what is not ours to drop.
    internal const int Oldest = 1;

    /// <summary>The parts that it makes, or takes away.</summary>
    internal IReadOnlyList<StepPart> Parts { get; private init; } = [];

    /// <summary>What the record of a step up says of them.</summary>
    internal string Added => string.Join(", ", Parts.Select(part => part.Text));

    /// <summary>The step up to a version, from what is there.</summary>
    internal static SchemaStep Up(Dialect dialect, int version, TableShape shape)
    {
        IReadOnlyList<StepPart> all = PartsOf(dialect, version);
        List<string> statements = shape is { Recorded: not null, RecordsParts: false } ? ["ALTER TABLE kvcache_schema ADD COLUMN added TEXT"] : [];
        statements.AddRange(all.Where(part => part.IsColumn && !part.IsIn(shape)).Select(part => part.Sql));
        statements.AddRange(ExpectedSchema.Widenings(dialect, shape, version));
        statements.AddRange(Restoring(shape, AsideOf(version)));
        statements.AddRange(all.Where(part => !part.IsColumn && !part.IsIn(shape)).Select(part => part.Sql));
        return new SchemaStep(version, true, ChecksumOf(dialect, version), null, statements)
        {
            Parts = [.. all.Where(part => part.Kind.Length > 0 && !part.IsIn(shape))],
        };
    }

    /// <summary>The step down from a version: takes away what its step up made, the values kept in a table aside.</summary>
    internal static SchemaStep Down(Dialect dialect, int version, TableShape shape)
    {
        string[]? added = shape.Recorded?.GetValueOrDefault(version)?.Added?.Split(", ");
        StepPart[] parts = [.. PartsOf(dialect, version).Where(part => added is null ? part.Kind.Length > 0 && !part.IsOfOldTable : added.Contains(part.Text)).Reverse()];
        string[] columns = [.. parts.Where(part => part.IsColumn).Select(part => part.Name).Reverse()];
        string aside = AsideOf(version);
        string[] keep = columns.Length == 0 ? [] :
        [
            $"CREATE TABLE {aside} AS\n    SELECT key, {string.Join(", ", columns)} FROM {TableShape.Entries}\n    WHERE key IS NOT NULL AND ({NotNull(columns)})",
        ];
        string? note = columns.Length == 0 ? null : $"Keeps {string.Join(", ", columns)} in the table {aside}; a later migration brings them back.";
        return new SchemaStep(version, false, ChecksumOf(dialect, version), note, [.. keep, .. parts.Select(part => part.Drop)]) { Parts = parts };
    }

    internal static string ChecksumOf(Dialect dialect, int version) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(dialect.Resource($"{version}"))));

    /// <summary>The condition that one of some columns has a value.</summary>
    internal static string NotNull(IEnumerable<string> columns) => string.Join(" OR ", columns.Select(column => $"{column} IS NOT NULL"));

    private static IReadOnlyList<StepPart> PartsOf(Dialect dialect, int version) => StepPart.ReadAll(dialect.Resource($"{version}"));

    private static string AsideOf(int version) => $"kvcache_aside_{version}";

    // A column that somebody made meanwhile keeps its values; what was kept aside fills its gaps.
    private static string[] Restoring(TableShape shape, string aside)
    {
        string[] columns = [.. shape.ColumnsOf(aside).Where(column => column != "key")];
        return columns.Length == 0 ? [] :
        [
            $"UPDATE {TableShape.Entries} SET\n    {string.Join(",\n    ", columns.Select(c => $"{c} = COALESCE({TableShape.Entries}.{c}, a.{c})"))}\nFROM {aside} a WHERE a.key = {TableShape.Entries}.key",
            $"DROP TABLE {aside}",
        ];
    }
}

/// <summary>Where a database's schema stands.</summary>
/// <param name="Version">Its version: 0 without the table, 1 of 1.x, 2 of 2.0 and 2.1, 3 ours.</param>
/// <param name="Newest">The newest version that this library knows.</param>
/// <param name="IsRecorded">Whether the table kvcache_schema says so; otherwise the columns do.</param>
/// <param name="Differences">What is not as that version, or a step from it, needs it; nothing runs on it until that is mended.</param>
public sealed record SchemaStatus(int Version, int Newest, bool IsRecorded, IReadOnlyList<string> Differences);
