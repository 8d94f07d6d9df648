using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache stats</c>: the numbers of a store.</summary>
internal static class StatsCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Command command = new("stats", "What a store holds, in numbers, and the tiers that are named.") { store, json };
        TierOptions tierOptions = new TierOptions().AddTo(command);
        command.SetAction(parsed =>
        {
            using OpenTiers tiers = tierOptions.Open(parsed);
            StatsReport stats = StatsReport.Of(StoreChoice.Open(parsed.GetValue(store))) with { Tiers = tiers.Report };
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(stats);
                return CommandLine.Done;
            }

            Table table = terminal.NewTable("what", "#value");
            table.AddRow("snapshots", Readable.Count(stats.Snapshots));
            table.AddRow("unreadable", Readable.Count(stats.Unreadable));
            table.AddRow("sequences", Readable.Count(stats.Sequences));
            table.AddRow("tokens", Readable.Count(stats.Tokens));
            table.AddRow("pages", Readable.Count(stats.Pages));
            table.AddRow("bytes", Readable.Bytes(stats.Bytes));
            table.AddRow("on disk", Readable.Bytes(stats.StoredBytes));
            table.AddRow("oldest", Time(stats.Oldest));
            table.AddRow("newest", Time(stats.Newest));
            foreach (TierReport tier in stats.Tiers ?? [])
            {
                table.AddRow($"tier {tier.Name}", tier.BytesInUse is { } used ? Readable.Bytes(used) : "-");
            }

            terminal.Write(table);
            return CommandLine.Done;
        });
        return command;
    }

    private static string Time(DateTimeOffset? time) => time?.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture) ?? "-";
}
