using System.Text.Json;
using KvCacheGpu.Catalog;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>
/// An upgrade's step that takes the catalog's schema up. Undone, it is at the version that the run found, or at 1 where there was no table: below
/// lies nothing that is ours to drop. What an older version has no column for is kept aside.
/// </summary>
/// <param name="database">The address; null where none was given, and a journal alone may know of one.</param>
/// <param name="options">How patient to be; the default where null.</param>
internal sealed class DatabaseStep(string? database, CatalogOptions? options = null) : IUpgradeStep
{
    private const string Sqlite = "sqlite:";

    /// <inheritdoc/>
    public string Name => "database";

    /// <inheritdoc/>
    public string Title => database is null ? "Back up and migrate the database (--database gives its address)" : "Migrate the database";

    /// <inheritdoc/>
    public string? Plan()
    {
        if (database is null)
        {
            return null;
        }

        var schema = new CatalogSchema(database, options);
        return schema.PlanAsync().GetAwaiter().GetResult().Count == 0
            ? null
            : JsonSerializer.Serialize(new Planned(schema.Address, schema.StatusAsync().GetAwaiter().GetResult().Version));
    }

    /// <inheritdoc/>
    public string Do(string plan)
    {
        Planned planned = Read(plan);
        CatalogSchema schema = SchemaOf(planned);
        schema.MigrateAsync().GetAwaiter().GetResult();
        return $"{schema.Address} from version {planned.From} to {schema.StatusAsync().GetAwaiter().GetResult().Version}";
    }

    /// <inheritdoc/>
    public void Undo(string plan)
    {
        Planned planned = Read(plan);
        (CatalogSchema schema, int from) = (SchemaOf(planned), Math.Max(1, planned.From));
        if (schema.StatusAsync().GetAwaiter().GetResult().Version > from)
        {
            schema.RollbackAsync(from).GetAwaiter().GetResult();
        }
    }

    /// <inheritdoc/>
    public void Verify(string plan)
    {
        SchemaStatus status = SchemaOf(Read(plan)).StatusAsync().GetAwaiter().GetResult();
        if (status.Version != status.Newest || status.Differences.Count > 0)
        {
            throw new IOException($"the catalog's schema: expected version {status.Newest}, unaltered, got version {status.Version} {string.Join("; ", status.Differences)}");
        }
    }

    // The journal holds no password: it comes with the option again, or from PGPASSWORD.
    private CatalogSchema SchemaOf(Planned planned)
    {
        if (database is null)
        {
            return planned.Address.StartsWith(Sqlite, StringComparison.Ordinal)
                ? new CatalogSchema(planned.Address, options)
                : throw new UsageException("--database", $"the address of {planned.Address}, with its user", "none");
        }

        var schema = new CatalogSchema(database, options);
        return schema.Address == planned.Address
            ? schema
            : throw new UsageException("--database", $"the database that the run began with, {planned.Address}", schema.Address);
    }

    private static Planned Read(string plan) => JsonSerializer.Deserialize<Planned>(plan) ?? throw new IOException($"an upgrade's step 'database': expected a plan, got {plan}");

    private sealed record Planned(string Address, int From);
}
