namespace KvCacheGpu.Catalog;

/// <summary>What each version looks like on each database, and how a given one differs.</summary>
internal static class ExpectedSchema
{
    private const string Entries = "cache_entries.";

    // Column, version, and the types that it may have: "postgres" first, then SQLite's declared ones. SQLite keeps any value under any declared
    // type, so that only the columns that we add are held to theirs.
    private static readonly (string Name, int Since, string[] Postgres, string? Sqlite)[] _columns =
    [
        ("key", 1, ["character varying(255)", "text"], null),
        ("value", 1, ["bytea"], null),
        ("created_at", 1, ["timestamp without time zone", "timestamp with time zone"], null),
        ("accessed_at", 1, ["timestamp without time zone", "timestamp with time zone"], null),
        ("session_id", 2, ["character varying(255)"], "VARCHAR(255)"),
        ("metadata", 2, ["jsonb"], null),
        ("tenant", 3, ["character varying(255)"], "VARCHAR(255)"),
        ("name", 3, ["text"], "TEXT"),
        ("path", 3, ["text"], "TEXT"),
        ("checksum", 3, ["character varying(255)"], "VARCHAR(255)"),
        ("format_version", 3, ["integer"], "INTEGER"),
        ("bytes", 3, ["bigint"], "BIGINT"),
        ("layers", 3, ["integer"], "INTEGER"),
        ("tokens", 3, ["bigint"], "BIGINT"),
    ];

    private static readonly (string Name, int Since, string? Postgres, string? Sqlite)[] _indexes =
    [
        ("primary key", 1, "btree (key)", "key"),
        ("idx_session_id", 2, "btree (session_id)", "session_id"),
        ("idx_cache_key", 3, "btree (key COLLATE \"C\")", null),
        ("idx_cache_session", 3, "btree (session_id, key COLLATE \"C\")", "session_id, key"),
        ("idx_cache_tenant", 3, "btree (tenant, key COLLATE \"C\")", "tenant, key"),
        ("idx_cache_metadata", 3, "gin (metadata jsonb_path_ops)", null),
        ("cache_metadata_insert", 3, null, "trigger"),
        ("cache_metadata_update", 3, null, "trigger"),
        ("cache_metadata_delete", 3, null, "trigger"),
    ];

    /// <summary>The version that columns show where none is recorded.</summary>
    public static int Infer(TableShape shape) =>
        !shape.Columns.Keys.Any(c => c.StartsWith(Entries, StringComparison.Ordinal)) ? 0
        : shape.Columns.ContainsKey(Entries + "session_id") || shape.Columns.ContainsKey(Entries + "metadata") ? 2 : 1;

    /// <summary>How the database differs from what the steps up to <paramref name="version"/> leave. Further columns and indexes of others are no difference.</summary>
    public static IEnumerable<string> Differences(Dialect dialect, TableShape shape, int version)
    {
        bool isPostgres = dialect is PostgresDialect;
        foreach ((string name, int since, string[] postgres, string? sqlite) in _columns)
        {
            string[]? types = isPostgres ? postgres : sqlite is null ? null : [sqlite];
            if (!shape.Columns.TryGetValue(Entries + name, out string? type))
            {
                if (since <= version)
                {
                    yield return $"column {name} is missing";
                }
            }
            else if (since > version)
            {
                yield return $"column {name}, which step {since} adds, is already there";
            }
            else if (types is not null && !types.Contains(type))
            {
                yield return $"column {name} is {type}, not {string.Join(" or ", types)}";
            }
        }

        foreach ((string name, int since, string? postgres, string? sqlite) in _indexes)
        {
            if ((isPostgres ? postgres : sqlite) is not string expected || since > version)
            {
                continue;
            }

            if (!shape.Indexes.TryGetValue(name, out string? actual))
            {
                yield return $"{(expected == "trigger" ? "trigger" : "index")} {name} is missing";
            }
            else if (actual != expected)
            {
                yield return $"index {name} is on {actual}, not {expected}";
            }
        }

        if (!isPostgres && version >= 3 && !shape.Columns.ContainsKey("cache_metadata.value"))
        {
            yield return "table cache_metadata is missing";
        }
    }

    /// <summary>How the record of steps differs from the steps of this library.</summary>
    public static IEnumerable<string> RecordDifferences(Dialect dialect, IReadOnlyDictionary<int, string> recorded)
    {
        for (int step = 1; step <= recorded.Keys.DefaultIfEmpty(0).Max(); step++)
        {
            string checksum = SchemaStep.Read(dialect, step, isUp: true).Checksum;
            if (!recorded.TryGetValue(step, out string? actual))
            {
                yield return $"step {step} is not recorded, a later one is";
            }
            else if (actual != checksum)
            {
                yield return $"step {step} is recorded with checksum {Short(actual)}, not {Short(checksum)}";
            }
        }
    }

    private static string Short(string checksum) => checksum[..Math.Min(12, checksum.Length)];
}
