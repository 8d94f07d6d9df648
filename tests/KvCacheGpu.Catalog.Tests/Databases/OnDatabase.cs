using System.Reflection;
using Xunit.Sdk;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>Runs a theory on SQLite.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnSqliteAttribute : DataAttribute
{
    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [["sqlite"]];
}

/// <summary>Runs a theory on the PostgreSQL that KVCACHE_TEST_POSTGRES names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnPostgresAttribute : DataAttribute
{
    public OnPostgresAttribute() => Skip = TestDatabase.Server is null ? TestDatabase.NoServer : null;

    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [["postgres"]];
}

/// <summary>A fact about PostgreSQL alone, which may have to be restarted for it.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class PostgresRestartFactAttribute : FactAttribute
{
    public PostgresRestartFactAttribute() => Skip =
        TestDatabase.Server is null ? TestDatabase.NoServer
        : TestDatabase.Restart is null ? "KVCACHE_TEST_POSTGRES_RESTART names no command that restarts the server (.ci/run sets it)" : null;
}
