using System.CommandLine;
using System.Text.Json;
using KvCacheGpu.Configuration;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache config</c>: the settings in force and their sources. <see cref="ConfigVersions"/> has the subcommands for versions.</summary>
internal static class ConfigCommand
{
    /// <summary>Makes the command with all its subcommands.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<bool> generate = new("--generate") { Description = "The same as config generate." };
        Command command = new("config", "The configuration and its versions.") { generate, Show(terminal), Validate(terminal), ConfigGeneration.Create(terminal) };
        ConfigGeneration generation = new();
        generation.On(command);
        command.SetAction(parsed => parsed.GetValue(generate)
            ? generation.Run(terminal, parsed)
            : throw new UsageException("config", "a subcommand, or --generate", "neither"));
        Array.ForEach(ConfigVersions.Create(terminal), command.Add);
        return command;
    }

    private static Command Show(Terminal terminal)
    {
        ConfigPlace place = new();
        Option<string?> preset = ConfigGeneration.Preset();
        Option<bool> json = Choice.Json();
        Command command = place.On(new Command("show", "Print every key's value and where it comes from.") { preset, json });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            KvConfiguration configuration = KvConfiguration.Load(place.Sources(parsed) with { Preset = parsed.GetValue(preset) });
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(new ShowReport(
                    configuration.Preset, configuration.Enabled, [.. configuration.Settings.Select(Report)], configuration.Warnings));
                return;
            }

            Table table = terminal.NewTable("key", "value", "origin");
            foreach (KvSetting setting in configuration.Settings)
            {
                table.AddRow(setting.Key, Markup.Escape(setting.Value ?? "none"), Markup.Escape($"{setting.Origin}"));
            }

            terminal.Write(table);
            WriteWarnings(terminal.Error, configuration.Warnings);
        }));
        return command;
    }

    private static Command Validate(Terminal terminal)
    {
        ConfigPlace place = new();
        Option<bool> json = Choice.Json();
        Command command = place.On(new Command("validate", "Check the configuration: exit 0 where an engine can be made with it, 2 where not.") { json });
        command.SetAction(parsed => ConfigPlace.Guarded(() =>
        {
            ConfigurationReport report = ConfigurationReport.Of(place.Sources(parsed));
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
                return;
            }

            terminal.Output.WriteLine(report.Summary());
            WriteWarnings(terminal.Output, report.Warnings);
        }));
        return command;
    }

    private static void WriteWarnings(TextWriter writer, IReadOnlyList<string> warnings)
    {
        foreach (string warning in warnings)
        {
            writer.WriteLine($"warning: {warning}");
        }
    }

    private static SettingReport Report(KvSetting setting)
    {
        string? value = setting.Value is null || !KvConfigurationKeys.Find(setting.Key)!.IsText ? setting.Value : JsonSerializer.Serialize(setting.Value);
        return new SettingReport(
            setting.Key, value is null ? null : JsonSerializer.Deserialize<JsonElement>(value), $"{setting.Origin}", JsonNamingPolicy.SnakeCaseLower.ConvertName($"{setting.Origin.Source}"));
    }

    private sealed record ShowReport(string? Preset, bool Enabled, IReadOnlyList<SettingReport> Settings, IReadOnlyList<string> Warnings);

    private sealed record SettingReport(string Key, JsonElement? Value, string Origin, string Source);
}
