using System.Text.RegularExpressions;

namespace KvCacheGpu.Catalog;

/// <summary>The parts that each version needs of a database, and the differences of a given one.</summary>
internal static partial class ExpectedSchema
{
    /// <summary>The index that a step makes if none makes keys unique.</summary>
    public const string UniqueKey = "idx_cache_unique";

    private static readonly NeededColumn[] _columns =
    [
        new("key", 1, ColumnKind.Text, EntryCheck.MaxId),
        new("session_id", 2, ColumnKind.Text, EntryCheck.MaxId),
        new("metadata", 2, ColumnKind.Json),
        new("value", 3, ColumnKind.Bytes),
        new("created_at", 3, ColumnKind.Time),
        new("accessed_at", 3, ColumnKind.Time),
        new("tenant", 3, ColumnKind.Text, EntryCheck.MaxId),
        new("name", 3, ColumnKind.Text, EntryCheck.MaxText),
        new("path", 3, ColumnKind.Text, EntryCheck.MaxText),
        new("checksum", 3, ColumnKind.Text, EntryCheck.MaxId),
        new("format_version", 3, ColumnKind.Integer),
        new("bytes", 3, ColumnKind.Long),
        new("layers", 3, ColumnKind.Integer),
        new("tokens", 3, ColumnKind.Long),
    ];

    // Name, version, and definition on each database: null if that database has no such index.
    private static readonly (string Name, int Since, string? Postgres, string? Sqlite)[] _indexes =
    [
        (TableShape.KeyIsUnique, 3, "key", "key"),
        ("idx_session_id", 2, "btree (session_id)", "session_id"),
        ("idx_cache_key", 3, "btree (key COLLATE \"C\")", null),
        ("idx_cache_session", 3, "btree (session_id, key COLLATE \"C\")", "session_id, key"),
        ("idx_cache_tenant", 3, "btree (tenant, key COLLATE \"C\")", "tenant, key"),
        ("idx_cache_metadata", 3, "gin (metadata jsonb_path_ops)", null),
        ("cache_metadata_insert", 3, null, "trigger"),
        ("cache_metadata_update", 3, null, "trigger"),
        ("cache_metadata_delete", 3, null, "trigger"),
    ];

    // Checksums of steps 1 to 3 as the first release recorded them. Those steps made the same schema as today's.
    private static readonly Dictionary<string, string[]> _earlier = new()
    {
        ["postgres"] =
        [
            "d98de1a2855097bca6843e2382b6c6e562542906e206e88959128f5e149545a0",
            "480c597111a33cae309b2955c222618a19685b1ce79103d3fbef62263f4c9664",
            "79c1589b01d6830936cf42b5222a50cfe70215f0ed33994d85c26ef170a4a475",
        ],
        ["sqlite"] =
        [
            "224b8a91d7bd5e1ad252aa75e05ea360756b339eaac18dd17c631233351bb677",
            "fd7712db1f00e8aa0ac7bb4af4b80822124fb1eeb876691abb76cf0d7a277144",
            "32b65c6a5c42bbeb387996e09b2ca9667aef8b258a6a51c46a75a43d00637a73",
        ],
    };

    /// <summary>The version that the parts show if none is recorded. A schema that has only some parts of version 2 is of version 1: step 2 adds the others.</summary>
    public static int Infer(TableShape shape) =>
        !shape.HasTable(TableShape.Entries) ? 0
        : shape.HasColumn("session_id") && shape.HasColumn("metadata") && shape.Indexes.ContainsKey("idx_session_id") ? 2 : 1;

    /// <summary>The parts of a version that the database lacks, and parts that stand in the way of later versions. Any other part that it holds is no difference.</summary>
    public static IEnumerable<string> Differences(Dialect dialect, TableShape shape, int version)
    {
        bool isPostgres = dialect is PostgresDialect;
        if (shape.Elsewhere is string schema)
        {
            yield return $"there is no table cache_entries in the search path, but one in schema {schema}: "
                + $"add ?options=-csearch_path%3D{Uri.EscapeDataString(schema)} to the address (another schema there makes a new table in it)";
        }

        foreach (NeededColumn column in _columns)
        {
            if (!shape.Columns.TryGetValue($"{TableShape.Entries}.{column.Name}", out string? type))
            {
                if (column.Since <= version)
                {
                    yield return $"column {column.Name} is missing";
                }
            }
            else if (column.FlawOf(isPostgres, type) is string needed)
            {
                yield return $"column {column.Name} is {(type.Length == 0 ? "of no type" : type)}, not {needed}: change its type, or rename it";
            }
            else if (isPostgres && version == SchemaStep.Newest && column.IsNarrow(type))
            {
                yield return $"column {column.Name} is {type}, not {column.Wide}";
            }
        }

        foreach ((string name, int since, string? postgres, string? sqlite) in _indexes)
        {
            if ((isPostgres ? postgres : sqlite) is not string expected)
            {
                continue;
            }

            if (!shape.Indexes.TryGetValue(name, out string? actual))
            {
                if (since <= version)
                {
                    yield return name == TableShape.KeyIsUnique ? "no index makes keys unique" : $"{(expected == "trigger" ? "trigger" : "index")} {name} is missing";
                }
            }
            else if (actual != expected && !IsByTheGuide(name, actual))
            {
                yield return $"index {name} is on {actual}, not {expected}: rename it";
            }
        }

        if (!isPostgres && version == SchemaStep.Newest && !shape.HasTable("cache_metadata"))
        {
            yield return "table cache_metadata is missing";
        }
    }

    /// <summary>Statements that widen columns, if a step needs longer texts than a column holds. Only PostgreSQL has any, since SQLite holds texts of any length.</summary>
    public static IEnumerable<string> Widenings(Dialect dialect, TableShape shape, int version) =>
        from column in _columns
        where dialect is PostgresDialect && version == SchemaStep.Newest
            && shape.Columns.TryGetValue($"{TableShape.Entries}.{column.Name}", out string? type) && column.IsNarrow(type)
        select $"ALTER TABLE {TableShape.Entries} ALTER COLUMN {column.Name} TYPE {column.Wide}";

    /// <summary>The differences between the record of steps and the steps of this library.</summary>
    public static IEnumerable<string> RecordDifferences(Dialect dialect, IReadOnlyDictionary<int, StepRecord> recorded)
    {
        for (int step = 1; step <= recorded.Keys.DefaultIfEmpty(0).Max(); step++)
        {
            string checksum = SchemaStep.ChecksumOf(dialect, step);
            if (!recorded.TryGetValue(step, out StepRecord? actual))
            {
                yield return $"step {step} is not recorded, a later one is";
            }
            else if (actual.Checksum != checksum && actual.Checksum != _earlier[dialect.Name][step - 1])
            {
                yield return $"step {step} is recorded with checksum {Short(actual.Checksum)}, not {Short(checksum)}";
            }
        }
    }

    // Version 2.0 has an index of this name that begins with the session and is not unique; it may be partial, have further columns, or be a hash index.
    private static bool IsByTheGuide(string name, string actual) => name == "idx_session_id" && LeadsWithSession().IsMatch(actual);

    private static string Short(string checksum) => checksum[..Math.Min(12, checksum.Length)];

    [GeneratedRegex(@"^(\w+ \()?session_id\b")]
    private static partial Regex LeadsWithSession();
}
