using System.CommandLine;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache monitor</c>: prints the numbers of a store at intervals.</summary>
internal static class MonitorCommand
{
    private static readonly TimeSpan DefaultInterval = TimeSpan.FromSeconds(5);

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Option<AgeText?> interval = Choice.Parsed<AgeText?>("--interval", "5s", "Time from line to line. Default: 5s.", AgeText.Expected, AgeText.TryParse);
        Option<int?> count = Choice.Number("--count", "Lines to write. Default: until interrupted.", 1);
        Command command = new("monitor", "Write a line about a store, again and again; a JSON document each under --json.") { store, interval, count, json };
        command.SetAction(async (parsed, cancel) =>
        {
            SnapshotStore opened = StoreChoice.Open(parsed.GetValue(store));
            int left = parsed.GetValue(count) ?? int.MaxValue;
            while (true)
            {
                StatsReport stats = StatsReport.Of(opened);
                if (parsed.GetValue(json))
                {
                    terminal.WriteJson(stats);
                }
                else
                {
                    terminal.Output.WriteLine(
                        $"{DateTime.UtcNow:HH:mm:ss}  {stats.Snapshots} snapshots, {stats.Unreadable} unreadable, {Readable.Count(stats.Tokens)} tokens, {Readable.Bytes(stats.StoredBytes)} on disk");
                }

                terminal.Output.Flush();
                if (--left == 0)
                {
                    return CommandLine.Done;
                }

                try
                {
                    await Task.Delay(parsed.GetValue(interval)?.Age ?? DefaultInterval, cancel);
                }
                catch (OperationCanceledException)
                {
                    return CommandLine.Done;
                }
            }
        });
        return command;
    }
}
