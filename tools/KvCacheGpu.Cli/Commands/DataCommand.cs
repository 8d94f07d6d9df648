using System.CommandLine;
using KvCacheGpu.Import;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache data</c>: old cache files, inspected, migrated into a snapshot store, and exported again.</summary>
internal static class DataCommand
{
    /// <summary>The store if none is named.</summary>
    public const string DefaultStore = "kvcache-store";

    private static readonly Option<string?> _store = Choice.Text("--store", "DIR", $"The snapshot store. Default: ./{DefaultStore}.");

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal) => new("data", "Old caches: pickles and files of torch.save. Nothing in one is ever run.")
    {
        Inspect(terminal), Migrate(terminal), Export(terminal),
    };

    private static Command Inspect(Terminal terminal)
    {
        Argument<string> file = new("FILE") { Description = "A .pkl or .pt file." };
        Option<bool> json = Choice.Json();
        Option<GeometryText?> geometry = Geometry();
        Command command = new("inspect", "What a file holds, each tensor with its digest, and what of it cannot be keys and values.") { file, geometry, json };
        command.SetAction(parsed =>
        {
            using CacheFile old = CacheFile.Open(Existing(parsed.GetValue(file)!));
            MappedCache mapped = MappedCache.Of(old, Shape(parsed.GetValue(geometry)));
            InspectReport report = new(
                old.Format switch { CacheFormat.Pickle => "pickle", CacheFormat.TorchZip => "torch-zip", CacheFormat.TorchLegacy => "torch-legacy", _ => "torch-tar" },
                mapped.Entries.Count,
                [.. old.Tensors.Select(t => new TensorReport(t.Path, t.Tensor.Type.Name(), t.Tensor.Shape, Convert.ToHexStringLower(t.Tensor.Sha256())))],
                EntryReport.Of(mapped, EntryOutcome.Quarantined));
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
                return CommandLine.Done;
            }

            Table table = terminal.NewTable("tensor", "dtype", "shape", "sha256");
            foreach (TensorReport tensor in report.Tensors)
            {
                table.AddRow(new Text(tensor.Path), new Text(tensor.Dtype), new Text($"[{string.Join(", ", tensor.Shape)}]"), new Text(tensor.Sha256));
            }

            terminal.Output.WriteLine(report.Format);
            terminal.Write(table);
            Print(terminal, mapped.Entries.Count, mapped.Count(EntryOutcome.Imported), report.Quarantined, EntryReport.Of(mapped, EntryOutcome.Refused));
            Print(terminal, mapped.Loss);
            return CommandLine.Done;
        });
        return command;
    }

    private static Command Migrate(Terminal terminal)
    {
        Argument<string> file = new("FILE") { Description = "A .pkl or .pt file; it is only read." };
        Option<string?> to = Required("--to", "NAME", "The snapshot to make of it.");
        Option<bool> dryRun = new("--dry-run") { Description = "Say what would be done, and write nothing." };
        Option<GeometryText?> geometry = Geometry();
        Option<bool> lossless = new("--lossless") { Description = "Quarantine entries of float64 that float32 does not have exactly. Default: they are rounded, and it says by how much." };
        Option<bool> json = Choice.Json();
        Command command = new("migrate", "Makes a snapshot of an old file, and reads it back to compare.") { file, to, _store, dryRun, geometry, lossless, json };
        command.SetAction(parsed =>
        {
            DataMigration migration = new(
                Existing(parsed.GetValue(file)!),
                StoreChoice.Require("--to", parsed.GetValue(to), "a snapshot's name"),
                Store(parsed),
                Shape(parsed.GetValue(geometry)),
                parsed.GetValue(lossless));
            bool quiet = parsed.GetValue(json);
            MigrationReport report = terminal.WithProgress(quiet, stages => migration.Run(parsed.GetValue(dryRun), stages));
            if (quiet)
            {
                terminal.WriteJson(report);
                return CommandLine.Done;
            }

            Print(terminal, report.Entries, report.Imported, report.Quarantined, report.Refused);
            RoundingLoss loss = new(report.RoundedElements, report.LargestRounding);
            Print(terminal, loss);
            string done = report.AlreadyDone ? "was made of this file before; nothing to do"
                : report.DryRun ? "would be made; nothing was written"
                : loss.IsNone ? "is made, and reads back as the file"
                : "is made, and reads back as the file, rounded to float32";
            terminal.Output.WriteLine($"snapshot {report.Snapshot}: {report.Sequences} sequences, {Readable.Count(report.Tokens)} tokens in {report.Format}: {done}");
            return CommandLine.Done;
        });
        return command;
    }

    private static Command Export(Terminal terminal)
    {
        Argument<string> name = new("NAME") { Description = "A snapshot." };
        Option<string?> to = Required("--to", "FILE.pt", "The file to make, for torch.load with weights_only.");
        Option<bool> json = Choice.Json();
        Command command = new("export", "Writes a snapshot as PyTorch does.") { name, to, _store, json };
        command.SetAction(parsed =>
        {
            ExportReport report = DataExport.Run(StoreChoice.Require("NAME", parsed.GetValue(name), "a snapshot's name"), Store(parsed), parsed.GetValue(to)!);
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
            }
            else
            {
                terminal.Output.WriteLine(
                    $"{report.File}: {report.Sequences} sequences, {Readable.Count(report.Tokens)} tokens in {report.Dtype}, {Readable.Bytes(report.Bytes)}");
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static void Print(Terminal terminal, int entries, int imported, IReadOnlyList<EntryReport> quarantined, IReadOnlyList<EntryReport> refused)
    {
        foreach ((string what, EntryReport entry) in quarantined.Select(e => ("quarantined", e)).Concat(refused.Select(e => ("refused", e))))
        {
            terminal.Output.WriteLine($"{what} {entry.Path}: {entry.Reason}");
        }

        terminal.Output.WriteLine($"{entries} entries = {imported} importable + {quarantined.Count} quarantined + {refused.Count} refused");
    }

    private static void Print(Terminal terminal, RoundingLoss loss)
    {
        if (!loss.IsNone)
        {
            terminal.Output.WriteLine($"{loss}");
        }
    }

    private static Option<GeometryText?> Geometry() => Choice.Parsed<GeometryText?>(
        "--geometry", "L,H,D", "Layers, KV heads, head width: tells axes apart that the file does not. Default: what most entries have.", GeometryText.Expected, GeometryText.TryParse);

    private static ImportGeometry? Shape(GeometryText? text) => text is { } g ? new ImportGeometry(g.Layers, g.Heads, g.Width, g.Width) : null;

    private static Option<string?> Required(string name, string placeholder, string description)
    {
        Option<string?> option = Choice.Text(name, placeholder, description);
        option.Required = true;
        return option;
    }

    private static string Store(ParseResult parsed) => parsed.GetValue(_store) ?? DefaultStore;

    private static string Existing(string file) =>
        !File.Exists(file) ? throw new UsageException("FILE", "a file that is there", $"'{file}'", "E002")
        : PathKind.FlawOf(file) is { } flaw ? throw new UsageException("FILE", "a regular file", $"{flaw}: {file}", "E002")
        : file;
}
