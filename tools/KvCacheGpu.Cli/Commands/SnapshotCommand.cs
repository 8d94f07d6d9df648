using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache snapshot</c>: lists, checks, deletes, backs up and restores the snapshots of a store.</summary>
internal static class SnapshotCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal) => new("snapshot", "List, inspect, verify, delete, back up and restore persisted snapshots.")
    {
        List(terminal), Inspect(terminal), Verify(terminal), Delete(terminal),
        Copy(terminal, "backup", "Copy every snapshot into the store at --path.", (store, path, progress) => store.BackupAsync(path, progress)),
        Copy(terminal, "restore", "Copy every snapshot of the backup at --path into the store, once all of them were verified.", (store, path, progress) => store.RestoreAsync(path, progress)),
    };

    /// <summary>Prints a table of snapshots.</summary>
    public static void Print(Terminal terminal, IReadOnlyList<SnapshotInfo> snapshots)
    {
        Table table = terminal.NewTable("snapshot", "#generation", "#sequences", "#tokens", "#bytes", "#on disk", "saved", "remarks");
        foreach (SnapshotInfo info in snapshots)
        {
            table.AddRow(
                Markup.Escape(Readable.Line($"{info.Name?.ToString() ?? info.FileName[..12]}")),
                $"{info.Generation}",
                Readable.Count(info.Sequences),
                Readable.Count(info.Tokens),
                Readable.Bytes(info.Bytes),
                Readable.Bytes(info.StoredBytes),
                info.Name is null ? "-" : info.Created.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture),
                Markup.Escape(Readable.Line(info.Notice ?? (info.IsEncrypted ? "encrypted" : string.Empty))));
        }

        terminal.Write(table);
    }

    private static Command List(Terminal terminal)
    {
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Command command = new("list", "What the store holds.") { store, json };
        command.SetAction(parsed =>
        {
            IReadOnlyList<SnapshotInfo> all = StoreChoice.Run(StoreChoice.Open(parsed.GetValue(store)).ListAsync());
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(all.Select(SnapshotReport.Of));
            }
            else
            {
                Print(terminal, all);
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static Command Inspect(Terminal terminal) => Named(terminal, "inspect", "What a snapshot holds, its pages unread.", (store, name, isJson) =>
    {
        using OpenSnapshot open = StoreChoice.Run(store.InspectAsync(name));
        SnapshotDetails details = Describe(open);
        if (isJson)
        {
            terminal.WriteJson(details);
            return CommandLine.Done;
        }

        Print(terminal, [open.Info]);
        terminal.Output.WriteLine(
            $"model {details.ModelFingerprint ?? "not said"}: {details.Layers} layers, {details.KvHeads} KV heads, widths {details.KeyWidth} and {details.ValueWidth}; pages of {details.PageTokens} tokens in {string.Join(", ", details.Formats)}");
        foreach (SavedSequenceReport sequence in details.SequenceList)
        {
            terminal.Output.WriteLine(Readable.Line($"sequence '{sequence.Id}': {sequence.Tokens} tokens, {Readable.Decimal(sequence.EvictedTokens)} of them evicted"));
        }

        return CommandLine.Done;
    });

    private static SnapshotDetails Describe(OpenSnapshot open)
    {
        (SnapshotContent content, KvGeometry geometry) = (open.Content, open.Content.Geometry);
        return new SnapshotDetails(
            SnapshotReport.Of(open.Info),
            content.ModelFingerprint,
            geometry.Layers,
            geometry.KvHeads,
            geometry.KeyWidth,
            geometry.ValueWidth,
            geometry.PageTokens,
            [.. content.Classes.Select(layout => layout.ToString()).Distinct()],
            [.. content.Sequences.Select(sequence => new SavedSequenceReport(
                sequence.Id, sequence.Tenant, sequence.Length, sequence.EvictedTokens(geometry), sequence.HostMetadata))]);
    }

    private static Command Verify(Terminal terminal) => Named(terminal, "verify", "Read every byte of every generation. Exit 1 where the current one is not whole.", (store, name, isJson) =>
    {
        IReadOnlyList<SnapshotVerdict> verdicts = StoreChoice.Run(store.VerifyAsync(name));
        if (isJson)
        {
            terminal.WriteJson(verdicts.Select(v => new VerdictReport(v.Generation, v.IsCurrent, v.Error is null, v.Error?.Message)));
        }
        else
        {
            foreach (SnapshotVerdict verdict in verdicts)
            {
                terminal.Output.WriteLine($"generation {verdict.Generation}{(verdict.IsCurrent ? ", current" : string.Empty)}: {verdict.Error?.Message ?? "whole"}");
            }
        }

        SnapshotVerdict first = verdicts.FirstOrDefault(v => v.IsCurrent) ?? verdicts[0];
        return first.Error is null ? CommandLine.Done : throw first.Error;
    });

    private static Command Delete(Terminal terminal) => Named(terminal, "delete", "Delete a snapshot with all its generations.", (store, name, isJson) =>
    {
        store.DeleteAsync(name).GetAwaiter().GetResult();
        if (isJson)
        {
            terminal.WriteJson(new { Deleted = name.Name, name.Tenant });
        }
        else
        {
            terminal.Output.WriteLine(Readable.Line($"deleted {name}"));
        }

        return CommandLine.Done;
    });

    private static Command Named(Terminal terminal, string verb, string description, Func<SnapshotStore, SnapshotName, bool, int> act)
    {
        Argument<string> name = new("NAME") { Description = "The snapshot." };
        (Option<string?> store, Option<string?> tenant, Option<bool> json) = (StoreChoice.Store(), StoreChoice.Tenant(), Choice.Json());
        Command command = new(verb, description) { name, store, tenant, json };
        command.SetAction(parsed => act(
            StoreChoice.Open(parsed.GetValue(store)),
            new SnapshotName(StoreChoice.Require("NAME", parsed.GetValue(name), "a snapshot's name"), parsed.GetValue(tenant)),
            parsed.GetValue(json)));
        return command;
    }

    private static Command Copy(
        Terminal terminal, string verb, string description, Func<SnapshotStore, string, IProgress<SnapshotProgress>, Task<IReadOnlyList<SnapshotInfo>>> copy)
    {
        Option<string?> path = Choice.Text("--path", "P", "The other store's directory.");
        (Option<string?> store, Option<bool> json) = (StoreChoice.Store(), Choice.Json());
        Command command = new(verb, description) { store, path, json };
        command.SetAction(parsed =>
        {
            bool isJson = parsed.GetValue(json);
            SnapshotStore here = StoreChoice.Open(parsed.GetValue(store));
            string there = StoreChoice.Require("--path", parsed.GetValue(path), "a directory");
            IReadOnlyList<SnapshotInfo> copied = terminal.WithProgress(isJson, stages => StoreChoice.Run(copy(here, there, new StoreProgress(stages, verb))));
            if (isJson)
            {
                terminal.WriteJson(copied.Select(SnapshotReport.Of));
            }
            else
            {
                Print(terminal, copied);
            }

            return CommandLine.Done;
        });
        return command;
    }
}
