using System.CommandLine;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache config generate</c>, also <c>config --generate</c>: a configuration with every key, its meaning and its default.</summary>
internal sealed class ConfigGeneration
{
    private readonly Option<string?> _preset = Preset();
    private readonly Option<string?> _file = Choice.Text("--file", "F", "Write to this file, which is not there yet: .yaml, .json or .env. Default: print.");
    private readonly Option<KvConfigurationFormat?> _format = Choice.Parsed<KvConfigurationFormat?>(
        "--format", "yaml|json|env", "What to print. Default: yaml.", "yaml, json or env", TryRead);

    /// <summary>Makes the subcommand.</summary>
    public static Command Create(Terminal terminal)
    {
        ConfigGeneration generation = new();
        Command command = new("generate", "Print or write a configuration with every key, its meaning and its default.");
        generation.On(command);
        command.SetAction(parsed => generation.Run(terminal, parsed));
        return command;
    }

    /// <summary>--preset.</summary>
    public static Option<string?> Preset() => Choice.Parsed<string?>(
        "--preset", string.Join('|', KvPresets.Names), "Values in place of the defaults.", string.Join(", ", KvPresets.Names), (string text, out string? value) =>
        {
            value = KvPresets.Find(text) is null ? null : text;
            return value is not null;
        });

    /// <summary>Adds the options to a command.</summary>
    public void On(Command command)
    {
        command.Add(_preset);
        command.Add(_file);
        command.Add(_format);
    }

    /// <summary>Prints the configuration, or writes it to a file.</summary>
    public int Run(Terminal terminal, ParseResult parsed)
    {
        // A new file does not take over the settings in force here: no file, no .env, and no variable is read.
        KvConfiguration configuration = KvConfiguration.Load(
            new KvConfigurationSources { Preset = parsed.GetValue(_preset), Environment = new Dictionary<string, string>() });
        if (parsed.GetValue(_file) is not { } file)
        {
            terminal.Output.Write(configuration.ToText(parsed.GetValue(_format) ?? KvConfigurationFormat.Yaml));
            return CommandLine.Done;
        }

        string folder = Path.GetDirectoryName(Path.GetFullPath(RequireText(file)))!;
        if (Path.Exists(file) || !Directory.Exists(folder) || parsed.GetValue(_format) is not null)
        {
            throw new UsageException(
                "--file", "a file that is not there yet, in a folder that is, its name telling the format",
                Path.Exists(file) ? $"'{file}', which is there" : !Directory.Exists(folder) ? $"'{file}'; no such folder" : "--format beside it");
        }

        configuration.Save(file);
        terminal.Error.WriteLine($"[{file} written]");
        return CommandLine.Done;
    }

    private static string RequireText(string file) =>
        file.Length > 0 && !file.Contains('\0', StringComparison.Ordinal) ? file : throw new UsageException("--file", "a file", "an empty name");

    private static bool TryRead(string text, out KvConfigurationFormat? format)
    {
        format = text switch
        {
            "yaml" => KvConfigurationFormat.Yaml,
            "json" => KvConfigurationFormat.Json,
            "env" => KvConfigurationFormat.DotEnv,
            _ => null,
        };
        return format is not null;
    }
}
