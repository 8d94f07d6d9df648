using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>The subcommands of <c>kvcache config</c> that deal with versions: migrate, backup, backups, restore.</summary>
internal static class ConfigVersions
{
    /// <summary>Makes the subcommands.</summary>
    public static Command[] Create(Terminal terminal) => [Migrate(terminal), Backup(terminal), Backups(terminal), Restore(terminal)];

    private static Command Migrate(Terminal terminal)
    {
        var place = new ConfigPlace();
        Option<bool> dryRun = new("--dry-run") { Description = "Print what would change as a unified diff, and change nothing." };
        Option<bool> lossless = ConfigPlace.Lossless();
        Command command = place.On(new Command("migrate", "Bring the configuration and .env to version 2.1, a backup made before.") { dryRun, lossless });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            bool isDry = parsed.GetValue(dryRun);
            KvConfigMigration migration = new KvCacheConfigManager(place.Locate(parsed)).MigrateToNewFormat(parsed.GetValue(lossless), isDry);
            foreach (string warning in migration.Warnings)
            {
                terminal.Error.WriteLine($"warning: {warning}");
            }

            foreach (KvMigratedFile file in migration.Files)
            {
                terminal.Output.WriteLine($"{file.Path}: {file.From.Name()} -> {file.To.Name()}{(isDry ? ", not written" : string.Empty)}");
                terminal.Output.Write(isDry ? file.Diff : string.Empty);
            }

            terminal.Output.WriteLine(
                migration.Files.Count == 0 ? "nothing to migrate: the configuration is of version 2.1"
                : isDry ? "dry run: nothing has changed"
                : migration.Backup is { } backup ? $"backup {backup.Id}" : "a backup of the old files was there already");
        }));
        return command;
    }

    private static Command Backup(Terminal terminal)
    {
        var place = new ConfigPlace();
        Command command = place.On(new Command("backup", "Save the configuration and .env, time-stamped and hashed."));
        command.SetAction(parsed => ConfigPlace.Guarded(
            () => terminal.Output.WriteLine(new KvCacheConfigManager(place.Locate(parsed)).BackupCurrentConfig())));
        return command;
    }

    private static Command Backups(Terminal terminal)
    {
        var place = new ConfigPlace();
        Option<bool> json = Choice.Json();
        Command command = place.On(new Command("backups", "List the backups, the newest first.") { json });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            IReadOnlyList<KvConfigBackup> backups = new KvCacheConfigManager(place.LocateBackups(parsed)).ListBackups();
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(backups.Select(backup => new BackupReport(backup.Id, backup.Created, backup.Version, backup.Files)));
            }
            else
            {
                Print(terminal, backups);
            }
        }));
        return command;
    }

    private static Command Restore(Terminal terminal)
    {
        var place = new ConfigPlace();
        Argument<string?> id = new("ID") { Description = "The backup. Without it: a numbered list, and a number is read.", Arity = ArgumentArity.ZeroOrOne };
        Command command = place.On(new Command("restore", "Put a backup's files back, byte for byte.") { id });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            var manager = new KvCacheConfigManager(place.LocateBackups(parsed));
            string chosen = parsed.GetValue(id) ?? Ask(terminal, manager.ListBackups());
            KvConfigBackup? before = manager.RestoreFromBackup(chosen);
            terminal.Output.WriteLine($"restored {chosen}{(before is null ? string.Empty : $"; what was there is kept in backup {before.Id}")}");
        }));
        return command;
    }

    private static string Ask(Terminal terminal, IReadOnlyList<KvConfigBackup> backups)
    {
        if (backups.Count == 0)
        {
            throw new UsageException("backup", "one to restore", "none", "E002");
        }

        Print(terminal, backups);
        terminal.Output.Write($"backup (1-{backups.Count}): ");
        string line = terminal.Input.ReadLine() ?? string.Empty;
        terminal.Output.WriteLine();
        return int.TryParse(line.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= 1 && number <= backups.Count
            ? backups[number - 1].Id
            : throw new UsageException("number of a backup", $"1..{backups.Count}", $"\"{line}\"");
    }

    private static void Print(Terminal terminal, IReadOnlyList<KvConfigBackup> backups)
    {
        for (int i = 0; i < backups.Count; i++)
        {
            terminal.Output.WriteLine($"{i + 1}. {backups[i]}");
        }

        if (backups.Count == 0)
        {
            terminal.Output.WriteLine("no backups");
        }
    }

    private sealed record BackupReport(string Id, DateTimeOffset Created, string Version, IReadOnlyList<string> Files);
}
