using System.CommandLine;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache clear-cache</c> and <c>kvcache cleanup</c>: delete all snapshots, or those of a certain age.</summary>
internal static class CleanupCommand
{
    /// <summary>Makes <c>clear-cache</c>.</summary>
    public static Command CreateClear(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Command command = new("clear-cache", "Delete every snapshot of a store.") { store, json };
        command.SetAction(parsed => Delete(terminal, StoreChoice.Open(parsed.GetValue(store)), DateTimeOffset.MaxValue, parsed.GetValue(json)));
        return command;
    }

    /// <summary>Makes <c>cleanup</c>.</summary>
    public static Command Create(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Option<AgeText?> age = Choice.Parsed<AgeText?>("--max-age", "7d", "Older snapshots go.", AgeText.Expected, AgeText.TryParse);
        Command command = new("cleanup", "Delete the snapshots of a store that were saved longer ago.") { store, age, json };
        command.SetAction(parsed =>
        {
            TimeSpan most = parsed.GetValue(age)?.Age ?? throw new UsageException("--max-age", AgeText.Expected, "none");
            return Delete(terminal, StoreChoice.Open(parsed.GetValue(store)), DateTimeOffset.UtcNow - most, parsed.GetValue(json));
        });
        return command;
    }

    // A snapshot that cannot be read has no name by which to delete it, and may be the last copy of something: it stays, and a remark names it.
    private static int Delete(Terminal terminal, SnapshotStore store, DateTimeOffset savedBefore, bool isJson)
    {
        IReadOnlyList<SnapshotInfo> all = StoreChoice.Run(store.ListAsync());
        SnapshotInfo[] gone = [.. all.Where(info => info.Name is not null && info.Created < savedBefore)];
        foreach (SnapshotInfo info in gone)
        {
            store.DeleteAsync(info.Name!.Value).GetAwaiter().GetResult();
        }

        int unreadable = all.Count(info => info.Name is null);
        if (isJson)
        {
            terminal.WriteJson(new { Deleted = gone.Select(SnapshotReport.Of), Kept = all.Count - gone.Length, Unreadable = unreadable });
        }
        else
        {
            terminal.Output.WriteLine($"deleted {gone.Length} of {all.Count} snapshots, {Readable.Bytes(gone.Sum(info => info.StoredBytes))} of their newest generations{(unreadable > 0 ? $"; {unreadable} cannot be read and stay" : string.Empty)}");
        }

        return CommandLine.Done;
    }
}
