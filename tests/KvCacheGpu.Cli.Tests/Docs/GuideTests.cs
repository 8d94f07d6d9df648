using System.Text.RegularExpressions;
using KvCacheGpu.Import;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>Files, commands and results of the guides, run as they stand: a fresh folder for each chapter.</summary>
public partial class GuideTests
{
    [Theory]
    [InlineData("migration.md", 16)]
    [InlineData("troubleshooting.md", 8)]
    [InlineData("import.md", 6)]
    public void Every_command_of_a_guide_runs_and_gives_what_it_shows(string guide, int least)
    {
        string text = File.ReadAllText(Path.Combine(Guide.Root, "docs", guide));
        int ran = 0;
        foreach (string chapter in text.Split("\n## "))
        {
            string folder = Directory.CreateTempSubdirectory("kvcache-guide-").FullName;
            Directory.CreateDirectory(Path.Combine(folder, "config"));
            using (FileStream cache = File.Create(Path.Combine(folder, "old_cache.pt")))
            {
                TorchWriter.Write(cache, new ImportGeometry(1, 2, 16, 16), ElementType.Float32, [new TorchSequence("chat", 3, (_, _, _, keys, _) => keys.Fill(1))]);
            }

            foreach (Match block in Block().Matches(chapter))
            {
                (string kind, string name, string body) = (block.Groups["kind"].Value, block.Groups["name"].Value, block.Groups["body"].Value);
                if (kind == "file")
                {
                    File.WriteAllText(Path.Combine(folder, name), body);
                }
                else if (kind == "result")
                {
                    Assert.Equal(body, File.ReadAllText(Path.Combine(folder, name)));
                }
                else
                {
                    foreach (string line in body.Split('\n', StringSplitOptions.RemoveEmptyEntries))
                    {
                        Run(folder, line);
                        ran++;
                    }
                }
            }

            Directory.Delete(folder, recursive: true);
        }

        Assert.Equal(ran, Regex.Count(text, @"^(echo \d+ \| )?kvcache .*$", RegexOptions.Multiline));
        Assert.InRange(ran, least, int.MaxValue);
    }

    [Fact]
    public void Every_error_code_is_explained()
    {
        string guide = File.ReadAllText(Path.Combine(Guide.Root, "docs", "troubleshooting.md"));
        Assert.All(Enumerable.Range(1, 10), code => Assert.Contains($"| E{code:d3} | ", guide, StringComparison.Ordinal));
        string[] errors = [.. typeof(KvCacheException).Assembly.GetExportedTypes().Where(type => type.BaseType == typeof(KvCacheException)).Select(type => type.Name)];
        Assert.All(errors, name => Assert.Contains($"`{name}`", guide, StringComparison.Ordinal));
    }

    // Tests share one current folder: paths that a reader would take from it are made whole.
    private static void Run(string folder, string line)
    {
        Match match = Command().Match(line);
        List<string> args = [.. match.Groups["args"].Value.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        foreach (string option in new[] { "--data", "--store", "inspect" })
        {
            int at = args.IndexOf(option) + 1;
            if (at > 0)
            {
                args[at] = Path.Combine(folder, args[at]);
            }
        }

        args = [.. args.Select(arg => arg.Replace("sqlite:", $"sqlite:{folder}/", StringComparison.Ordinal))];
        if (args[0] is "config" or "migrate" or "rollback")
        {
            int file = args.IndexOf("--file");
            if (file >= 0)
            {
                args[file + 1] = Path.Combine(folder, args[file + 1]);
            }

            args.AddRange(["--env", Path.Combine(folder, ".env")]);
            if (file >= 0 && !File.Exists(Path.Combine(folder, ".env")))
            {
                args.RemoveRange(args.Count - 2, 2);
            }
        }

        else if (args[0] is "run" or "data")
        {
            args = [.. args.Select((arg, i) => arg.EndsWith(".pt", StringComparison.Ordinal) || args[Math.Max(0, i - 1)] == "--store" ? Path.Combine(folder, arg) : arg)];
        }

        Tool tool = Tool.Answering(match.Groups["answer"].Value, [.. args]);
        Assert.True(tool.Exit == 0, $"{line}: {tool.Exit} {tool.Error}");
        Assert.NotEqual(string.Empty, tool.Output);
    }

    [GeneratedRegex(@"^<!-- (?<kind>file|run|result)(: (?<name>\S+))? -->\n```\w+\n(?<body>.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex Block();

    [GeneratedRegex(@"^(echo (?<answer>\d+) \| )?kvcache (?<args>.+)$", RegexOptions.ExplicitCapture)]
    private static partial Regex Command();
}
