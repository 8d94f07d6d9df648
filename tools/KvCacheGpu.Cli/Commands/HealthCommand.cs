using System.CommandLine;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache health</c>: checks that every snapshot of a store loads.</summary>
internal static class HealthCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Command command = new("health", "Read every byte of a store. Exit 1 where a snapshot does not load, or only an older generation of it.") { store, json };
        command.SetAction(parsed =>
        {
            bool isJson = parsed.GetValue(json);
            SnapshotStore opened = StoreChoice.Open(parsed.GetValue(store));
            SnapshotHealth[] all = terminal.WithProgress(isJson, stages => Check(opened, stages));
            SnapshotHealth[] ill = [.. all.Where(one => one.Error is not null)];
            if (isJson)
            {
                terminal.WriteJson(new HealthReport(opened.StorePath, ill.Length == 0, all));
            }
            else
            {
                terminal.Output.WriteLine($"{all.Length - ill.Length} of {all.Length} snapshots are whole");
            }

            foreach (SnapshotHealth one in ill)
            {
                terminal.Error.WriteLine(Readable.Line($"{one.Name ?? one.File}: {one.Error}"));
            }

            return ill.Length == 0 ? CommandLine.Done : CommandLine.Failed;
        });
        return command;
    }

    private static SnapshotHealth[] Check(SnapshotStore store, IStages stages)
    {
        IReadOnlyList<SnapshotInfo> all = StoreChoice.Run(store.ListAsync());
        IProgress<int> progress = stages.Begin($"verifying {all.Count} snapshots", Math.Max(1, all.Count));
        var found = new SnapshotHealth[all.Count];
        for (int i = 0; i < found.Length; i++)
        {
            found[i] = new SnapshotHealth(all[i].Name?.ToString(), all[i].FileName, ErrorOf(store, all[i]));
            progress.Report(i + 1);
        }

        return found;
    }

    private static string? ErrorOf(SnapshotStore store, SnapshotInfo info)
    {
        if (info.Name is not { } name)
        {
            return info.Notice;
        }

        try
        {
            using OpenSnapshot open = StoreChoice.Run(store.OpenAsync(name));
            return open.Info.Notice;
        }
        catch (KvCacheException error)
        {
            return error.Message;
        }
    }
}

/// <summary>The document of <c>kvcache health --json</c>.</summary>
/// <param name="Store">Its directory.</param>
/// <param name="Healthy">True if every snapshot's newest generation is whole.</param>
/// <param name="Snapshots">The snapshots.</param>
internal sealed record HealthReport(string Store, bool Healthy, IReadOnlyList<SnapshotHealth> Snapshots);

/// <summary>The state of a snapshot.</summary>
/// <param name="Name">Its name, or null.</param>
/// <param name="File">The first part of its files' names.</param>
/// <param name="Error">The error, or null.</param>
internal sealed record SnapshotHealth(string? Name, string File, string? Error);
