using System.Text.Json;
using KvCacheGpu.Catalog;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>
/// The step of an upgrade that takes the catalog's schema up. Undoing it takes the schema back to the version that the run found, or to 1 if there was no
/// table, since older schemas are not ours to drop. Values for which an older version has no column are kept aside.
/// </summary>
/// <param name="database">The address; null if none was given, but a journal may have one.</param>
/// <param name="options">The number of retries and the times to wait; the defaults if null.</param>
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

        CatalogSchema schema = Catalogs.Schema(database, options);
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

    // The journal holds no password, so it must come with the option again, or from PGPASSWORD.
    private CatalogSchema SchemaOf(Planned planned)
    {
        if (database is null)
        {
            return planned.Address.StartsWith(Sqlite, StringComparison.Ordinal)
                ? Catalogs.Schema(planned.Address, options)
                : throw new UsageException("--database", $"the address of {planned.Address}, with its user", "none");
        }

        CatalogSchema schema = Catalogs.Schema(database, options);
        return schema.Address == planned.Address
            ? schema
            : throw new UsageException("--database", $"the database that the run began with, {planned.Address}", schema.Address);
    }

    private static Planned Read(string plan) => JsonSerializer.Deserialize<Planned>(plan) ?? throw new IOException($"an upgrade's step 'database': expected a plan, got {plan}");

    private sealed record Planned(string Address, int From);
}
