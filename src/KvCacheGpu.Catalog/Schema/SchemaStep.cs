using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu.Catalog;

/// <summary>One step of the schema, up to <see cref="Version"/> or down from it, in one transaction.</summary>
/// <remarks>
/// A step does not need one exact shape: it uses parts that are there as they are, and a step down only takes away parts that the step up made.
/// Thread safety: it never changes.
/// </remarks>
/// <param name="Version">The version to which a step up leads, or from which a step down leads.</param>
/// <param name="IsUp">True for a step up.</param>
/// <param name="Checksum">SHA-256 of its SQL, in hexadecimal.</param>
/// <param name="Note">The values that it takes away and the place where they are kept; null if it takes none.</param>
/// <param name="Statements">The SQL that it runs on this database.</param>
public sealed record SchemaStep(int Version, bool IsUp, string Checksum, string? Note, IReadOnlyList<string> Statements)
{
    // Version 1 is the schema of 1.x, version 2 that of 2.0 and 2.1, version 3 ours.
    internal const int Newest = 3;

    // Older schemas are not ours to drop.
    internal const int Oldest = 1;

    /// <summary>The parts that it makes, or takes away.</summary>
    internal IReadOnlyList<StepPart> Parts { get; private init; } = [];

    /// <summary>The parts as the record of a step up names them.</summary>
    internal string Added => string.Join(", ", Parts.Select(part => part.Text));

    /// <summary>Makes the step up to a version from the parts that are there.</summary>
    internal static SchemaStep Up(CatalogDatabase database, int version, TableShape shape)
    {
        IReadOnlyList<StepPart> all = PartsOf(database, version);
        List<string> statements = shape is { Recorded: not null, RecordsParts: false } ? ["ALTER TABLE kvcache_schema ADD COLUMN added TEXT"] : [];
        statements.AddRange(all.Where(part => part.IsColumn && !part.IsIn(shape)).Select(part => part.Sql));
        statements.AddRange(ExpectedSchema.Widenings(database, shape, version));
        statements.AddRange(Restoring(shape, AsideOf(version)));
        statements.AddRange(all.Where(part => !part.IsColumn && !part.IsIn(shape)).Select(part => part.Sql));
        return new SchemaStep(version, true, ChecksumOf(database, version), null, statements)
        {
            Parts = [.. all.Where(part => part.Kind.Length > 0 && !part.IsIn(shape))],
        };
    }

    /// <summary>Makes the step down from a version: it takes away the parts that the step up made, and keeps their values in a table aside.</summary>
    internal static SchemaStep Down(CatalogDatabase database, int version, TableShape shape)
    {
        string[]? added = shape.Recorded?.GetValueOrDefault(version)?.Added?.Split(", ");
        StepPart[] parts = [.. PartsOf(database, version).Where(part => added is null ? part.Kind.Length > 0 && !part.IsOfOldTable : added.Contains(part.Text)).Reverse()];
        string[] columns = [.. parts.Where(part => part.IsColumn).Select(part => part.Name).Reverse()];
        string aside = AsideOf(version);
        string[] keep = columns.Length == 0 ? [] :
        [
            $"CREATE TABLE {aside} AS\n    SELECT key, {string.Join(", ", columns)} FROM {TableShape.Entries}\n    WHERE key IS NOT NULL AND ({NotNull(columns)})",
        ];
        string? note = columns.Length == 0 ? null : $"Keeps {string.Join(", ", columns)} in the table {aside}; a later migration brings them back.";
        return new SchemaStep(version, false, ChecksumOf(database, version), note, [.. keep, .. parts.Select(part => part.Drop)]) { Parts = parts };
    }

    /// <summary>The shape after this step up has made its parts, with which the next step of a plan begins.</summary>
    internal TableShape AppliedTo(TableShape shape)
    {
        Dictionary<string, string> columns = new(shape.Columns) { ["kvcache_schema.added"] = "text" };
        Dictionary<string, string> indexes = new(shape.Indexes);
        foreach (StepPart part in Parts)
        {
            if (part is { Kind: "TABLE", Name: TableShape.Entries })
            {
                Array.ForEach(["key", "value", "created_at", "accessed_at"], name => columns[$"{TableShape.Entries}.{name}"] = string.Empty);
                indexes[TableParts.KeyIsUnique] = "key";
            }
            else if (part.IsColumn)
            {
                columns[$"{TableShape.Entries}.{part.Name}"] = string.Empty;
            }
        }

        return shape with { Columns = columns, Indexes = indexes };
    }

    internal static string ChecksumOf(CatalogDatabase database, int version) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(database.Step(version))));

    /// <summary>The condition that at least one of the columns has a value.</summary>
    internal static string NotNull(IEnumerable<string> columns) => string.Join(" OR ", columns.Select(column => $"{column} IS NOT NULL"));

    private static IReadOnlyList<StepPart> PartsOf(CatalogDatabase database, int version) => StepPart.ReadAll(database.Step(version));

    private static string AsideOf(int version) => $"kvcache_aside_{version}";

    // A column that somebody made in the meantime keeps its values; the values that were kept aside fill its gaps.
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

/// <summary>The state of a database's schema.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Version">Its version: 0 without the table, 1 as of 1.x, 2 as of 2.0 and 2.1, 3 ours.</param>
/// <param name="Newest">The newest version that this library knows.</param>
/// <param name="IsRecorded">True if the table kvcache_schema records the version; otherwise it follows from the columns.</param>
/// <param name="Differences">The parts that differ from what that version, or a step from it, needs. No operation runs on the catalog until they are mended.</param>
public sealed record SchemaStatus(int Version, int Newest, bool IsRecorded, IReadOnlyList<string> Differences);
