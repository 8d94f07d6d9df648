using System.CommandLine;
using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>--file and --env: where a command's configuration lies.</summary>
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

    /// <summary>Where the files are; one that is named is there, and if none is, one of both is.</summary>
    public KvConfigLocation Locate(ParseResult parsed)
    {
        KvConfigLocation location = LocateBackups(parsed);
        RequireNamed(parsed);
        return File.Exists(Path.Combine(location.Root, location.File)) || File.Exists(Path.Combine(location.Root, location.Env))
            ? location
            : throw new UsageException("configuration", $"{location.File} or {location.Env} in {location.Root}", "neither", "E002");
    }

    /// <summary>What is read: files that are named are there; where none is, one need not be.</summary>
    public KvConfigurationSources Sources(ParseResult parsed)
    {
        RequireNamed(parsed);
        return KvConfigurationSources.Find(Named(parsed, _file), Named(parsed, _env));
    }

    /// <summary>Where the files were or are to be: their backups may be all that is there.</summary>
    public KvConfigLocation LocateBackups(ParseResult parsed)
    {
        KvConfigLocation location = KvConfigLocation.Find(Named(parsed, _file), Named(parsed, _env));
        return Directory.Exists(location.Root) ? location : throw new UsageException("configuration", "a folder", $"'{location.Root}', which is not there", "E002");
    }

    /// <summary>Refuses a file that is named and not there.</summary>
    public static void RequireThere(string option, string? file)
    {
        if (file is not null && !File.Exists(file))
        {
            throw new UsageException(option, "a file", $"'{file}', which is not there", "E002");
        }
    }

    /// <summary>Runs a command; what is not there and what is too new are wrong input, exit 2.</summary>
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
