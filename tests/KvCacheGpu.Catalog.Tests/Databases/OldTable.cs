namespace KvCacheGpu.Catalog.Tests;

/// <summary>Tables as versions 1.x and 2.0 left them, with rows and with an extra column.</summary>
internal static class OldTable
{
    /// <summary>The rows that must be the same at every version of the schema.</summary>
    public const string Rows = "SELECT key, value, created_at, accessed_at, owner FROM cache_entries ORDER BY owner";

    /// <summary>The columns that version 2 has in addition.</summary>
    public const string SecondRows = "SELECT key, value, owner, session_id, metadata FROM cache_entries ORDER BY owner";

    public static Task MakeFirstAsync(TestDatabase database) => database.RunAsync(
        $"CREATE TABLE cache_entries (key VARCHAR(255) PRIMARY KEY, value {(database.IsSqlite ? "BLOB" : "BYTEA")} NOT NULL, created_at TIMESTAMP, accessed_at TIMESTAMP, owner INTEGER)",
        $"INSERT INTO cache_entries VALUES ('first', {Bytes(database, "00FF10")}, '2024-01-02 03:04:05.678901', '2024-02-03 04:05:06', 1)",
        $"INSERT INTO cache_entries VALUES ('zweite''; é', {Bytes(database, string.Empty)}, NULL, NULL, 2)",
        $"INSERT INTO cache_entries VALUES ('third', {Bytes(database, "80")}, '2025-01-01 00:00:00', '2025-01-01 00:00:00', 3)");

    /// <summary>The table that the client's script makes of the first one.</summary>
    public static async Task MakeSecondAsync(TestDatabase database)
    {
        await MakeFirstAsync(database);
        await database.RunAsync(
            "ALTER TABLE cache_entries ADD COLUMN session_id VARCHAR(255)",
            $"ALTER TABLE cache_entries ADD COLUMN metadata {(database.IsSqlite ? "TEXT" : "JSONB")}",
            "CREATE INDEX idx_session_id ON cache_entries(session_id)",
            """UPDATE cache_entries SET session_id = 's-1', metadata = '{"model": "llama", "tags": ["a", "b"], "n": 1.0}' WHERE key = 'first'""",
            """UPDATE cache_entries SET session_id = 's-1', metadata = '[1, 2]' WHERE key = 'third'""");
    }

    private static string Bytes(TestDatabase database, string hex) => database.IsSqlite ? $"X'{hex}'" : $"'\\x{hex}'::bytea";
}
