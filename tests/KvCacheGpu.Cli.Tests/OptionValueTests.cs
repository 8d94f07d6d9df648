using System.CommandLine;
using System.Diagnostics;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Cli.Tests;

/// <summary>
/// Every option and argument of every command that takes a value, given strange values: an empty text, blanks, a folder, a pipe to which nobody writes, and a file of 5 MB in
/// one line. The command takes the value or reports an error in one line; it neither hangs nor prints a stack trace.
/// </summary>
public sealed class OptionValueTests : IDisposable
{
    // Arguments that a command needs before it reads the value; {f} is a folder of the test. Commands that read only the value need none.
    private static readonly Dictionary<string, string[]> _needs = new()
    {
        ["run"] = ["--prompt-tokens", "1,2", "--max-new-tokens", "1"],
        ["plan"] = ["--geometry", "1,1,64", "--context", "16"],
        ["eval"] = ["--synthetic", "--seeds", "1", "--formats", "f16", "--policies", "none", "--budgets", "1"],
        // An address of no machine: what is not refused before ends there.
        ["serve"] = ["--urls", "http://192.0.2.1:5080", "--allow-anonymous"],
        ["monitor"] = ["--count", "1", "--store", "{f}/store"],
        ["cleanup"] = ["--max-age", "7d", "--store", "{f}/store"],
        ["clear-cache"] = ["--store", "{f}/store"],
        ["data inspect"] = ["{f}/none.pt"],
        ["data migrate"] = ["{f}/none.pt", "--to", "x", "--store", "{f}/store"],
        ["data export"] = ["x", "--to", "{f}/x.pt", "--store", "{f}/store"],
        ["migrate"] = ["--file", "{f}/c.yaml", "--store", "{f}/store"],
        ["rollback"] = ["--file", "{f}/c.yaml"],
        ["config migrate"] = ["--file", "{f}/c.yaml"],
        ["config backup"] = ["--file", "{f}/c.yaml"],
        ["config backups"] = ["--file", "{f}/c.yaml"],
        ["config restore"] = ["--file", "{f}/c.yaml"],
        ["snapshot backup"] = ["--path", "{f}/other", "--store", "{f}/store"],
        ["snapshot restore"] = ["--path", "{f}/other", "--store", "{f}/store"],
        ["db rebuild"] = ["--database", "sqlite:{f}/catalog.db", "--store", "{f}/store"],
        ["db rollback"] = ["--database", "sqlite:{f}/catalog.db"],
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-values-").FullName;

    public static TheoryData<string> Names()
    {
        TheoryData<string> names = [];
        foreach ((string name, Command command) in Commands())
        {
            if (Valued(command).Any())
            {
                names.Add(name);
            }
        }

        return names;
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_value_that_nobody_means_is_taken_or_refused_in_one_line(string name)
    {
        string file = Path.Combine(_folder, "long.json"), pipe = Path.Combine(_folder, "pipe.json"), directory = Path.Combine(_folder, "folder.json");
        File.WriteAllText(file, "{\"a\": \"" + new string('x', 5_000_000) + "\"}");
        Directory.CreateDirectory(directory);
        using (Process made = Process.Start("mkfifo", pipe))
        {
            made.WaitForExit();
        }

        Command command = Commands().Single(one => one.Name == name).Command;
        foreach (Symbol symbol in Valued(command))
        {
            foreach (string value in new[] { "", "   ", directory, pipe, file })
            {
                File.WriteAllText(Path.Combine(_folder, "c.yaml"), "kv_cache:\n  max_tokens: 64\n");
                string[] args = [.. name.Split(' '), .. With(_needs.GetValueOrDefault(name, []), symbol, value)];
                string asked = $"kvcache {string.Join(' ', args)}";
                Tool tool;
                try
                {
                    // This is no limit of speed; it only ends a test that would never end.
                    tool = await Task.Run(() => Tool.Run(args)).WaitAsync(TimeSpan.FromMinutes(5));
                }
                catch (Exception error)
                {
                    Assert.Fail($"{asked}: {error}");
                    throw;
                }

                Assert.True(tool.Exit is 0 or 1 or 2, $"{asked}: exit {tool.Exit}");
                Assert.True(tool.Exit == 0 || Regex.IsMatch(tool.Error, "^E0(0[1-9]|10): [^\n]{1,1000}\n$"), $"{asked}: {tool.Error}");
            }
        }
    }

    [Theory]
    [InlineData("config.json")]
    [InlineData("model.safetensors")]
    [InlineData("vocab.json")]
    public async Task A_pipe_among_a_models_files_is_refused_at_once(string name)
    {
        foreach (string file in Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "demo-model")))
        {
            File.CreateSymbolicLink(Path.Combine(_folder, Path.GetFileName(file)), file);
        }

        string pipe = Path.Combine(_folder, name);
        File.Delete(pipe);
        using (Process made = Process.Start("mkfifo", pipe))
        {
            made.WaitForExit();
        }

        string line = await Task.Run(() => Tool.Refused(2, "E002", "run", "--model", _folder, "--prompt", "a", "--max-new-tokens", "1")).WaitAsync(TimeSpan.FromMinutes(5));
        Assert.Contains("a named pipe", line, StringComparison.Ordinal);
    }

    private static string[] With(string[] needs, Symbol symbol, string value, string folder)
    {
        List<string> args = [.. needs.Select(need => need.Replace("{f}", folder, StringComparison.Ordinal))];
        if (symbol is Argument)
        {
            if (args is [var first, ..] && !first.StartsWith('-'))
            {
                args.RemoveAt(0);
            }

            return [value, .. args];
        }

        int at = args.IndexOf(symbol.Name);
        if (at >= 0)
        {
            args.RemoveRange(at, 2);
        }

        // Two ways to name one thing are refused before either is looked at.
        if (symbol.Name is "--prompt" or "--prompt-file" && args.IndexOf("--prompt-tokens") is var tokens and >= 0)
        {
            args.RemoveRange(tokens, 2);
        }

        return [.. args, symbol.Name, value];
    }

    private string[] With(string[] needs, Symbol symbol, string value) => With(needs, symbol, value, _folder);

    private static IEnumerable<Symbol> Valued(Command command) =>
        [.. command.Options.Where(option => option.ValueType != typeof(bool) && option.Name.StartsWith("--", StringComparison.Ordinal) && option is not System.CommandLine.Help.HelpOption and not VersionOption), .. command.Arguments];

    private static IEnumerable<(string Name, Command Command)> Commands()
    {
        Terminal nowhere = new(TextWriter.Null, TextWriter.Null, TextReader.Null);
        return Below(CommandLine.Commands(nowhere), string.Empty);

        static IEnumerable<(string, Command)> Below(Command command, string name) => command.Subcommands.SelectMany(
            inner => Below(inner, $"{name} {inner.Name}".Trim()).Prepend(($"{name} {inner.Name}".Trim(), inner)));
    }
}
