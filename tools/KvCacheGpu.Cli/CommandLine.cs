using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;
using KvCacheGpu.Catalog;
using KvCacheGpu.Import;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>The tool's entry: parses, runs a command, and turns every refusal into one line and an exit code.</summary>
internal static class CommandLine
{
    /// <summary>The command is done.</summary>
    public const int Done = 0;

    /// <summary>The operation failed: no memory (E001), no such device here (E009), and so on.</summary>
    public const int Failed = 1;

    /// <summary>The input or the usage is wrong.</summary>
    public const int Wrong = 2;

    // A prompt may begin with '@', and a text may consist of dashes, so there are no response files and no bundled options.
    private static readonly ParserConfiguration _parsing = new() { ResponseFileTokenReplacer = null, EnablePosixBundling = false };

    /// <summary>Runs the tool.</summary>
    /// <param name="args">The arguments, without the program's name.</param>
    /// <param name="output">Receives results.</param>
    /// <param name="error">Receives errors.</param>
    /// <param name="input">Gives the answers that a command asks for. Default: the console's input.</param>
    /// <returns>0 if done, 1 if the operation failed, 2 for wrong input or usage.</returns>
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
            ServeCommand.Create(terminal),
            BenchCommand.Create(terminal),
            DbCommand.Create(terminal),
            DataCommand.Create(terminal),
            DemoCommand.Create(terminal),
            DoctorCommand.Create(terminal),
            EvalCommand.Create(terminal),
            WidenCommand.Create(terminal),
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

    // The full name of a command, with its parents: "kvcache db status".
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
        // Names from users and files may hold any character, but the message stays on one line.
        char[] line = [.. message.Select(c => char.IsControl(c) ? ' ' : c)];
        error.WriteLine(line);
        return exit;
    }
}
