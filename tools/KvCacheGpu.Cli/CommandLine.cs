using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;
using KvCacheGpu.Catalog;
using KvCacheGpu.Import;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>The tool's entry: parses, runs a command, and turns whatever is refused into one line and an exit code.</summary>
internal static class CommandLine
{
    /// <summary>It is done.</summary>
    public const int Done = 0;

    /// <summary>The operation failed: no memory (E001), no such device here (E009), and so on.</summary>
    public const int Failed = 1;

    /// <summary>The input or the usage is wrong.</summary>
    public const int Wrong = 2;

    // A prompt may begin with '@' and options may follow a text of dashes: no response files, no bundles.
    private static readonly ParserConfiguration _parsing = new() { ResponseFileTokenReplacer = null, EnablePosixBundling = false };

    /// <summary>Runs the tool.</summary>
    /// <param name="args">The arguments, the program's name not among them.</param>
    /// <param name="output">Takes results.</param>
    /// <param name="error">Takes errors.</param>
    /// <param name="input">Gives answers where a command asks. Default: the console's.</param>
    /// <returns>0 done, 1 failed, 2 wrong input or usage.</returns>
    public static int Invoke(string[] args, TextWriter output, TextWriter error, TextReader? input = null)
    {
        RootCommand root = Commands(new Terminal(output, error, input));
        ParseResult parsed = root.Parse(args, _parsing);
        if (parsed.Action is not HelpAction && parsed.Errors is [ParseError first, ..])
        {
            string message = first.Message.StartsWith("E00", StringComparison.Ordinal) ? first.Message : $"E003: {first.Message.TrimEnd('.')}";
            return Refuse(error, $"{message}; see {NameOf(parsed.CommandResult)} --help", Wrong);
        }

        return Invoke(parsed, output, error);
    }

    /// <summary>All commands of the tool.</summary>
    public static RootCommand Commands(Terminal terminal)
    {
        RootCommand root = new("A paged, compressed KV cache for LLM inference: generate through it, try it, plan it.")
        {
            RunCommand.Create(terminal),
            DbCommand.Create(terminal),
            DataCommand.Create(terminal),
            DemoCommand.Create(terminal),
            DoctorCommand.Create(terminal),
            EvalCommand.Create(terminal),
            PlanCommand.Create(terminal),
            ConfigCommand.Create(terminal),
            SnapshotCommand.Create(terminal),
            StatsCommand.Create(terminal),
            CleanupCommand.CreateClear(terminal),
            CleanupCommand.Create(terminal),
            HealthCommand.Create(terminal),
            MonitorCommand.Create(terminal),
        };
        Array.ForEach(MigrateCommand.Create(terminal), root.Add);
        return root;
    }

    // "kvcache db status": with the commands that it stands beneath.
    private static string NameOf(CommandResult command) => command.Parent is CommandResult parent ? $"{NameOf(parent)} {command.Command.Name}" : "kvcache";

    private static int Invoke(ParseResult parsed, TextWriter output, TextWriter error)
    {
        try
        {
            return parsed.Invoke(new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false });
        }
        catch (UsageException e)
        {
            return Refuse(error, e.Message, Wrong);
        }
        catch (LlamaFormatException e)
        {
            return Refuse(error, e.Message, Wrong);
        }
        catch (ImportException e)
        {
            return Refuse(error, e.Message, Wrong);
        }
        catch (KvConfigurationException e)
        {
            return Refuse(error, e.Message, Wrong);
        }
        catch (KvSnapshotNotFoundException e)
        {
            return Refuse(error, e.Message, Wrong);
        }
        catch (KvUnsupportedException e)
        {
            return Refuse(error, $"{e.Message}; kvcache doctor lists what works here", Failed);
        }
        catch (BudgetException e)
        {
            return Refuse(error, e.Message, Failed);
        }
        catch (CatalogException e)
        {
            return Refuse(error, e.Message, e.Code == "E003" ? Wrong : Failed);
        }
        catch (KvCacheException e)
        {
            return Refuse(error, e.Message, Failed);
        }
        catch (OutOfMemoryException e)
        {
            return Refuse(error, $"E001: memory: {e.Message}", Failed);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Refuse(error, $"E005: {e.Message}", Failed);
        }
    }

    private static int Refuse(TextWriter error, string message, int exit)
    {
        // Names that users and files give may hold anything; the line stays one line.
        char[] line = [.. message.Select(c => char.IsControl(c) ? ' ' : c)];
        error.WriteLine(line);
        return exit;
    }
}
