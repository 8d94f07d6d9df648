using System.CommandLine;
using KvCacheGpu.Catalog;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache db</c>: shows the catalog's schema, and takes it up and down.</summary>
internal static class DbCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal) => new("db", "The catalog's schema: where it stands, up, and down.")
    {
        Status(terminal), Migrate(terminal), Rollback(terminal), Rebuild(terminal),
    };

    private static Command Rebuild(Terminal terminal)
    {
        (Option<string> database, Option<string?> store, Option<bool> json) = (Database(), StoreChoice.Store(), Choice.Json());
        Command command = new("rebuild", "Makes the catalog say what the manifests of a store say.") { database, store, json };
        command.SetAction(async (parsed, cancel) =>
        {
            SnapshotStore snapshots = StoreChoice.Open(parsed.GetValue(store));
            CacheCatalog catalog = Catalogs.Open(parsed.GetRequiredValue(database));
            IReadOnlyList<SnapshotInfo> whole = [.. (await snapshots.ListAsync(cancel).ConfigureAwait(false)).Where(info => info.Name is not null)];
            CatalogRebuild done = await catalog.RebuildAsync(snapshots.StorePath, whole.Select(info => CatalogRecord.Of(info, snapshots.StorePath)).ToAsyncEnumerable(), cancel).ConfigureAwait(false);
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(done);
            }
            else
            {
                terminal.Output.WriteLine($"{catalog.Schema.Address}: {done.Recorded} snapshots recorded, {done.Removed} that are gone removed");
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static Command Status(Terminal terminal)
    {
        (Option<string> database, Option<bool> json) = (Database(), Choice.Json());
        Command command = new("status", "Its version, and what differs from it.") { database, json };
        command.SetAction(async (parsed, cancel) =>
        {
            CatalogSchema schema = Catalogs.Schema(parsed.GetRequiredValue(database));
            SchemaStatus status = await schema.StatusAsync(cancel).ConfigureAwait(false);
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(new DbStatusReport(schema.Address, status.Version, status.Newest, status.IsRecorded, status.Differences));
                return CommandLine.Done;
            }

            string recorded = status.IsRecorded || status.Version == 0 ? string.Empty : ", told by its columns";
            terminal.Output.WriteLine($"{schema.Address}: version {status.Version} of {status.Newest}{recorded}");
            foreach (string difference in status.Differences)
            {
                terminal.Output.WriteLine($"differs: {difference}");
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static Command Migrate(Terminal terminal)
    {
        (Option<string> database, Option<bool> json) = (Database(), Choice.Json());
        Option<bool> dryRun = new("--dry-run") { Description = "Print the SQL; change nothing." };
        Command command = new("migrate", "Takes the schema up to this version.") { database, dryRun, json };
        command.SetAction(async (parsed, cancel) =>
        {
            CatalogSchema schema = Catalogs.Schema(parsed.GetRequiredValue(database));
            bool isDry = parsed.GetValue(dryRun);
            int from = (await schema.StatusAsync(cancel).ConfigureAwait(false)).Version;
            IReadOnlyList<SchemaStep> steps = isDry ? await schema.PlanAsync(cancel: cancel).ConfigureAwait(false) : await schema.MigrateAsync(cancel).ConfigureAwait(false);
            Print(terminal, schema, from, steps, isDry, parsed.GetValue(json));
            return CommandLine.Done;
        });
        return command;
    }

    private static Command Rollback(Terminal terminal)
    {
        (Option<string> database, Option<bool> json) = (Database(), Choice.Json());
        Option<int?> to = Choice.Number("--to", "The version to reach. Default: one below the present one.", 1);
        Command command = new("rollback", "Takes the schema down; what an older version has no column for is kept aside.") { database, to, json };
        command.SetAction(async (parsed, cancel) =>
        {
            CatalogSchema schema = Catalogs.Schema(parsed.GetRequiredValue(database));
            int from = (await schema.StatusAsync(cancel).ConfigureAwait(false)).Version;
            int target = parsed.GetValue(to) ?? from - 1;
            if (target > from)
            {
                throw new UsageException("--to", $"at most the present version, {from}", $"{target}");
            }

            // The parts to be taken away are printed before they are.
            bool isJson = parsed.GetValue(json);
            foreach (SchemaStep step in isJson ? [] : await schema.PlanAsync(target, cancel).ConfigureAwait(false))
            {
                terminal.Output.WriteLine($"step {step.Version} down: {step.Note ?? "takes no column away."}");
            }

            Print(terminal, schema, from, await schema.RollbackAsync(target, cancel).ConfigureAwait(false), isDry: false, isJson);
            return CommandLine.Done;
        });
        return command;
    }

    private static Option<string> Database() => Choice.Database("The catalog", isRequired: true);

    private static void Print(Terminal terminal, CatalogSchema schema, int from, IReadOnlyList<SchemaStep> steps, bool isDry, bool json)
    {
        int version = steps is [.., SchemaStep last] ? last.IsUp ? last.Version : last.Version - 1 : from;
        if (json)
        {
            terminal.WriteJson(new DbStepsReport(
                schema.Address, isDry, from, version, [.. steps.Select(s => new DbStepReport(s.Version, s.IsUp ? "up" : "down", s.Checksum, s.Note, isDry ? schema.Script(s) : []))]));
            return;
        }

        foreach (SchemaStep step in isDry ? steps : [])
        {
            terminal.Output.WriteLine($"-- step {step.Version} {(step.IsUp ? "up" : "down")}, checksum {step.Checksum}");
            foreach (string statement in schema.Script(step))
            {
                terminal.Output.WriteLine(statement + ";");
            }

            terminal.Output.WriteLine();
        }

        string did = steps.Count == 0 ? $"at version {from}, nothing to do" : $"{(isDry ? "would go" : "went")} from version {from} to {version}";
        terminal.Output.WriteLine($"{(isDry ? "-- " : string.Empty)}{schema.Address}: {did}");
    }
}

/// <summary>The document of <c>kvcache db status --json</c>.</summary>
/// <param name="Database">The address, without user and password.</param>
/// <param name="Version">The schema's version; 0 without tables.</param>
/// <param name="Newest">The newest version that this build knows.</param>
/// <param name="Recorded">True if the database records the version; otherwise it follows from the columns.</param>
/// <param name="Differences">The parts that were altered by hand.</param>
internal sealed record DbStatusReport(string Database, int Version, int Newest, bool Recorded, IReadOnlyList<string> Differences);

/// <summary>The document of <c>kvcache db migrate</c> and <c>rollback</c> under --json.</summary>
internal sealed record DbStepsReport(string Database, bool DryRun, int From, int Version, IReadOnlyList<DbStepReport> Steps);

/// <summary>A step that ran, or would run in a dry run.</summary>
/// <param name="Version">The version to which a step up leads, or from which a step down leads.</param>
/// <param name="Direction">"up" or "down".</param>
/// <param name="Checksum">SHA-256 of its SQL.</param>
/// <param name="Note">The values that it takes away, and the place where they are kept.</param>
/// <param name="Sql">Its statements, in a dry run.</param>
internal sealed record DbStepReport(int Version, string Direction, string Checksum, string? Note, IReadOnlyList<string> Sql);
