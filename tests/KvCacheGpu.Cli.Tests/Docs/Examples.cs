using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>The examples in the documentation of the API, as the compiler wrote them into the XML files beside the libraries: what an editor shows and docfx prints.</summary>
internal static partial class Examples
{
    /// <summary>The source of the examples, from the repository's root.</summary>
    public const string Source = "docs/api/examples.xml";

    // What a host has. Examples run inside of a class that derives from it, so that names of their own hide these.
    private const string Host = """
        internal abstract class ExampleHost : IDisposable
        {
            protected readonly KvGeometry geometry = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 64, pageTokens: 16);
            protected readonly int[] tokens = [11, 42, 7];
            protected readonly float[] keys = new float[3 * 2 * 64], values = new float[3 * 2 * 64], queries = new float[3 * 4 * 64], output = new float[3 * 4 * 64];
            protected readonly KvCache cache;
            protected readonly KvSequence sequence, conversation;

            protected ExampleHost()
            {
                cache = new KvCache(geometry, new KvCacheOptions { PrefixReuse = true, SwapBudgetBytes = 1 << 20, ExactRollbackTokens = 2 });
                (sequence, conversation) = (cache.CreateSequence(), cache.CreateSequence());
                using KvStep step = conversation.Begin([.. Enumerable.Range(1, 40)]);
                Forward(step);
                step.Commit();
            }

            public abstract Task RunAsync();

            public void Dispose() => cache.Dispose();

            protected static void Forward(KvStep step)
            {
                float[] pairs = new float[step.Tokens * 2 * 64], result = new float[step.Tokens * 4 * 64];
                for (int layer = 0; layer < step.Geometry.Layers; layer++)
                {
                    step.Append(layer, pairs, pairs);
                    step.Attend(layer, result, result);
                }
            }
        }
        """;

    /// <summary>The examples of each documented member, by the compiler's name for it: "M:KvCacheGpu.KvStep.Commit".</summary>
    public static IReadOnlyList<(string Member, string Code)> All { get; } =
    [
        .. Directory.EnumerateFiles(AppContext.BaseDirectory, "KvCacheGpu*.xml").Order(StringComparer.Ordinal)
            .SelectMany(file => XDocument.Load(file).Descendants("member"))
            .SelectMany(member => member.Elements("example").Elements("code").Select(code => ((string)member.Attribute("name")!, Unindented(code.Value)))),
    ];

    /// <summary>One program that runs them all, each in a folder of its own, with a host of its own.</summary>
    public static Guide.Snippet Program(IReadOnlyList<(string Member, string Code)> examples)
    {
        var usings = new SortedSet<string>(StringComparer.Ordinal) { "using KvCacheGpu;" };
        var calls = new StringBuilder();
        var classes = new StringBuilder();
        for (int i = 0; i < examples.Count; i++)
        {
            (string member, string code) = examples[i];
            usings.UnionWith(Using().Matches(code).Select(line => line.Value.Trim()));
            calls.Append($"await RunAsync(\"{member}\", new Example{i}());\n");
            classes.Append($"// {member}\ninternal sealed class Example{i} : ExampleHost\n{{\n    public override async Task RunAsync()\n    {{\n{Using().Replace(code, string.Empty)}\n    }}\n}}\n");
        }

        string program = $$"""
            #pragma warning disable CS1998
            {{string.Join('\n', usings)}}

            {{calls}}
            static async Task RunAsync(string member, ExampleHost example)
            {
                Environment.CurrentDirectory = Directory.CreateDirectory(Path.Combine(AppContext.BaseDirectory, Guid.NewGuid().ToString())).FullName;
                using (example)
                {
                    try
                    {
                        await example.RunAsync();
                    }
                    catch (Exception e)
                    {
                        throw new InvalidOperationException($"the example of {member} fails", e);
                    }
                }

                Directory.Delete(Environment.CurrentDirectory, recursive: true);
            }

            {{classes}}
            {{Host}}
            """;
        return new Guide.Snippet("examples", program, new Dictionary<string, string>(), null);
    }

    private static string Unindented(string code)
    {
        string[] lines = code.Split('\n');
        int indent = lines.Where(line => line.Trim().Length > 0).Min(line => line.Length - line.TrimStart().Length);
        return string.Join('\n', lines.Select(line => line.Length > indent ? line[indent..] : string.Empty)).Trim('\n');
    }

    // A directive, not a declaration.
    [GeneratedRegex(@"^using [\w.]+;\n", RegexOptions.Multiline)]
    private static partial Regex Using();
}
