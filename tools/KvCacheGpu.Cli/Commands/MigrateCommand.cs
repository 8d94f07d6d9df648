using System.CommandLine;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache migrate</c> and <c>kvcache rollback</c>: run the whole upgrade with a journal, and undo it.</summary>
internal static class MigrateCommand
{
    /// <summary>Makes both commands.</summary>
    public static Command[] Create(Terminal terminal) => [Migrate(terminal), Rollback(terminal)];

    private static Command Migrate(Terminal terminal)
    {
        var place = new ConfigPlace();
        Option<bool> lossless = ConfigPlace.Lossless();
        lossless.Description += " Leave entries of old data out that float32 would round.";
        Option<string?> data = Choice.Text("--data", "FILE", "An old cache, .pkl or .pt, to make a snapshot of. Default: none.");
        Option<string?> to = Choice.Text("--to", "NAME", "The snapshot to make of it. Default: the file's name.");
        Option<string?> store = Choice.Text("--store", "DIR", $"Where snapshots lie. Default: ./{DataCommand.DefaultStore}.");
        Option<string> database = Choice.Database("The catalog");
        Command command = place.On(new Command("migrate", "The whole upgrade as one run: checks, backup, configuration, environment, data, database, verification.")
        {
            lossless, data, to, store, database,
        });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            string phase = string.Empty;
            ConfigPlace.RequireThere(data.Name, parsed.GetValue(data));
            var steps = new IUpgradeStep[]
            {
                new DataStep(parsed.GetValue(data), parsed.GetValue(to), parsed.GetValue(store) ?? DataCommand.DefaultStore, parsed.GetValue(lossless)), new DatabaseStep(parsed.GetValue(database)),
            };
            var upgrade = new KvUpgrade(new KvCacheConfigManager(place.Locate(parsed)), parsed.GetValue(lossless), steps);
            var lines = new List<KvUpgradeLine>();
            KvUpgradeRun? run = upgrade.Run(lines.Add, warning => terminal.Error.WriteLine($"warning: {warning}"));
            foreach (KvUpgradeLine line in lines.OrderBy(line => line.Phase switch { "Before" => 0, "Migration" => 1, _ => 2 }))
            {
                if (line.Phase != phase)
                {
                    terminal.Output.WriteLine(line.Phase);
                    phase = line.Phase;
                }

                terminal.Output.WriteLine($"  {line}");
            }

            terminal.Output.WriteLine(run is null ? "nothing to migrate" : $"run {run.Id} is done; kvcache rollback {run.Id} undoes it");
        }));
        return command;
    }

    private static Command Rollback(Terminal terminal)
    {
        var place = new ConfigPlace();
        Argument<string?> id = new("RUN") { Description = "The run. Default: the newest that is not undone.", Arity = ArgumentArity.ZeroOrOne };
        Option<string> database = Choice.Database("The catalog");
        Command command = place.On(new Command("rollback", "Undo an upgrade, byte for byte.") { id, database });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            var steps = new IUpgradeStep[] { new DataStep(null, null, DataCommand.DefaultStore), new DatabaseStep(parsed.GetValue(database)) };
            var upgrade = new KvUpgrade(new KvCacheConfigManager(place.LocateBackups(parsed)), further: steps);
            KvUpgradeRun run = upgrade.Rollback(parsed.GetValue(id), warning => terminal.Error.WriteLine($"warning: {warning}"));
            terminal.Output.WriteLine($"run {run.Id} is undone: {string.Join(", ", run.Steps.Where(step => step.Plan is not null).Select(step => step.Name))}");
        }));
        return command;
    }
}
