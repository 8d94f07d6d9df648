using System.CommandLine;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>--file and --env: the place of a command's configuration.</summary>
internal sealed class ConfigPlace
{
    private readonly Option<string?> _file = Choice.Text("--file", "F", "The configuration. Default: config/kv_cache.yaml, .yml, .json, config/new_config.json or config/old_config.json, the first that is there.");
    private readonly Option<string?> _env = Choice.Text("--env", "F", "The .env file. Default: .env beside the configuration, or above its config folder.");

    /// <summary>--lossless.</summary>
    public static Option<bool> Lossless() => new("--lossless") { Description = "Leave lossy compression off where migrating from 1.x would switch it on." };

    /// <summary>Adds both options.</summary>
    public Command On(Command command)
    {
        command.Add(_file);
        command.Add(_env);
        return command;
    }

    /// <summary>The place of the files. A file that is named must exist; if none is named, one of the two must.</summary>
    public KvConfigLocation Locate(ParseResult parsed)
    {
        KvConfigLocation location = LocateBackups(parsed);
        RequireNamed(parsed);
        return File.Exists(Path.Combine(location.Root, location.File)) || File.Exists(Path.Combine(location.Root, location.Env))
            ? location
            : throw new UsageException("configuration", $"{location.File} or {location.Env} in {location.Root}", "neither", "E002");
    }

    /// <summary>The sources to read. A file that is named must exist; other files need not.</summary>
    public KvConfigurationSources Sources(ParseResult parsed)
    {
        RequireNamed(parsed);
        return KvConfigurationSources.Find(Named(parsed, _file), Named(parsed, _env));
    }

    /// <summary>The place that the files had or will have, since only their backups may exist.</summary>
    public KvConfigLocation LocateBackups(ParseResult parsed)
    {
        KvConfigLocation location = KvConfigLocation.Find(Named(parsed, _file), Named(parsed, _env));
        return Directory.Exists(location.Root) ? location : throw new UsageException("configuration", "a folder", $"'{location.Root}', which is not there", "E002");
    }

    /// <summary>Refuses a file that is named and does not exist.</summary>
    public static void RequireThere(string option, string? file)
    {
        if (file is not null && !File.Exists(file))
        {
            throw new UsageException(option, "a file", $"'{file}', which is not there", "E002");
        }
    }

    /// <summary>Runs a command. A file that does not exist or is too new is wrong input, exit code 2.</summary>
    public static int Guarded(Action work)
    {
        try
        {
            work();
            return CommandLine.Done;
        }
        catch (KvSnapshotNotFoundException error)
        {
            throw new UsageException(error);
        }
        catch (KvNewerVersionException error)
        {
            throw new UsageException(error);
        }
    }

    private void RequireNamed(ParseResult parsed)
    {
        RequireThere(_file.Name, Named(parsed, _file));
        RequireThere(_env.Name, Named(parsed, _env));
    }

    private static string? Named(ParseResult parsed, Option<string?> option) =>
        parsed.GetValue(option) is not { } text ? null
        : text.Length > 0 && !text.Contains('\0', StringComparison.Ordinal) ? text
        : throw new UsageException(option.Name, "a file", "an empty name");
}
