using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache widen</c>: writes a model of the same function with wider heads and, if they are wanted, outliers in its keys.</summary>
internal static class WidenCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string> model = new("MODEL") { Description = "A Llama model in Hugging Face layout." };
        Argument<string> target = new("OUT") { Description = "The directory to write, which must not exist or must be empty." };
        Option<int?> width = Choice.Number("--head-width", $"Width of the new heads: a multiple of the model's width, at most {KvGeometry.MaxWidth}. Default: the model's width.", 1);
        Option<double?> outliers = Choice.Parsed<double?>(
            "--outliers",
            "S",
            "Keys of two slow RoPE pairs of each KV head become S times larger, and the queries S times smaller. Default: 1.",
            $"a number of 1..{HeadWidening.MostOutliers}",
            (string text, out double? value) =>
            {
                value = double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) ? number : null;
                return value is >= 1 and <= HeadWidening.MostOutliers;
            });
        Option<int?> seed = Choice.Number("--seed", "Seed of the random maps of values and of the choice of pairs. Default: 0.", 0);
        Option<bool> json = Choice.Json();
        Command command = new("widen", "Write a model of the same function with wider heads or outlier keys, to evaluate caches with it.")
        {
            model, target, width, outliers, seed, json,
        };
        command.SetAction(parsed =>
        {
            string source = parsed.GetRequiredValue(model);
            string folder = RequireFree(parsed.GetRequiredValue(target));
            LlamaConfig config = LlamaConfig.Load(Path.Combine(source, "config.json"));
            HeadWidening widening = new(parsed.GetValue(width) ?? config.HeadWidth, parsed.GetValue(outliers) ?? 1, parsed.GetValue(seed) ?? 0);
            widening.Write(source, folder);
            WidenReport report = new(
                folder, config.HeadWidth, widening.HeadWidth, widening.Outliers, widening.Seed, Directory.GetFiles(folder).Sum(f => new FileInfo(f).Length));
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
            }
            else
            {
                string factor = widening.Outliers > 1 ? FormattableString.Invariant($", keys of two pairs a head times {widening.Outliers}") : string.Empty;
                terminal.Output.WriteLine(
                    $"{report.Model}: heads of width {report.HeadWidth} for {report.SourceHeadWidth}{factor}; the same function; {Readable.Bytes(report.Bytes)}.");
            }

            return CommandLine.Done;
        });
        return command;
    }

    // What lies in the directory might be a model that somebody wants to keep.
    private static string RequireFree(string folder)
    {
        string? found = folder.Length == 0 ? "an empty text"
            : File.Exists(folder) ? "a file"
            : Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any() ? "a directory with files"
            : null;
        return found is null ? folder : throw new UsageException("OUT", "a directory that does not exist or is empty", found);
    }

    /// <summary>The document of <c>kvcache widen --json</c>.</summary>
    /// <param name="Model">The directory that was written.</param>
    /// <param name="SourceHeadWidth">Width of the heads that were read.</param>
    /// <param name="HeadWidth">Width of the heads that were written.</param>
    /// <param name="Outliers">The factor of outlier keys; 1 if there are none.</param>
    /// <param name="Seed">The seed of maps and pairs.</param>
    /// <param name="Bytes">Bytes of the new directory.</param>
    private sealed record WidenReport(string Model, int SourceHeadWidth, int HeadWidth, double Outliers, int Seed, long Bytes);
}
