using System.Text.RegularExpressions;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>A document of the repository, and what tests run and follow in it.</summary>
internal sealed partial class Guide
{
    public static readonly string Root = FindRoot();

    private Guide(string name) => (Name, Text) = (name, File.ReadAllText(Path.Combine(Root, name)));

    /// <summary>The documents at the root and in docs/ and bench/, by their paths.</summary>
    public static IReadOnlyList<Guide> All { get; } =
    [
        .. new[] { ".", "docs", "bench" }
            .SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Root, folder), "*.md"))
            .Select(file => new Guide(Path.GetRelativePath(Root, file))).OrderBy(guide => guide.Name, StringComparer.Ordinal),
    ];

    /// <summary>The path from the repository's root.</summary>
    public string Name { get; }

    public string Text { get; }

    /// <summary>
    /// The blocks of C#, each with the files that its chapter shows before it, and with what it prints, where the next block says so
    /// (<c>&lt;!-- prints --&gt;</c>).
    /// </summary>
    public IEnumerable<Snippet> Snippets()
    {
        int number = 0;
        foreach (string chapter in Text.Split("\n## "))
        {
            var files = new Dictionary<string, string>(StringComparer.Ordinal);
            Snippet? last = null;
            foreach (Match block in Block().Matches(chapter))
            {
                string body = block.Groups["body"].Value;
                switch (block.Groups["kind"].Value, block.Groups["language"].Value)
                {
                    case ("file", _):
                        files[block.Groups["name"].Value] = body;
                        break;
                    case ("excerpt", _):
                        break;
                    case ("prints", _):
                        last = last! with { Prints = body };
                        break;
                    case (_, "csharp" or "cs" or "c#"):
                        if (last is not null)
                        {
                            yield return last;
                        }

                        last = new Snippet($"{Path.GetFileNameWithoutExtension(Name)}-{++number}", body, new Dictionary<string, string>(files), null);
                        break;
                }
            }

            if (last is not null)
            {
                yield return last;
            }
        }
    }

    /// <summary>Pieces of files of the repository (<c>&lt;!-- excerpt: FILE --&gt;</c>), which are built and run there: the file and the piece.</summary>
    public IEnumerable<(string File, string Text)> Excerpts() =>
        Block().Matches(Text).Where(block => block.Groups["kind"].Value == "excerpt").Select(block => (block.Groups["name"].Value, block.Groups["body"].Value));

    private static string FindRoot()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }

    [GeneratedRegex(@"^(<!-- (?<kind>\w+)(: (?<name>\S+))? -->\n)?```(?<language>\S*)\n(?<body>.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex Block();

    /// <summary>A program in a document.</summary>
    /// <param name="Name">Document and number.</param>
    /// <param name="Code">The text of the block, as it stands.</param>
    /// <param name="Files">Files that are there when it runs, by their paths.</param>
    /// <param name="Prints">All that it prints, or null if the document does not say.</param>
    internal sealed record Snippet(string Name, string Code, IReadOnlyDictionary<string, string> Files, string? Prints);
}
