using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>The tool's real entry point, run in this process.</summary>
internal sealed record Tool(int Exit, string Output, string Error)
{
    public static Tool Run(params string[] args) => Answering(null, args);

    /// <summary>Runs the tool with answers to what it asks.</summary>
    public static Tool Answering(string? answers, params string[] args)
    {
        using StringReader input = new(answers ?? string.Empty);
        using StringWriter output = new();
        using StringWriter error = new();
        int exit = CommandLine.Invoke(args, output, error, input);
        return new Tool(exit, output.ToString(), error.ToString());
    }

    /// <summary>Runs what must succeed under --json; the document is all that stdout holds.</summary>
    public static JsonElement Json(params string[] args)
    {
        Tool tool = Run([.. args, "--json"]);
        Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
        using JsonDocument document = JsonDocument.Parse(tool.Output);
        return document.RootElement.Clone();
    }

    /// <summary>Runs what must be refused: nothing on stdout, one line on stderr that begins with the code.</summary>
    public static string Refused(int exit, string code, params string[] args)
    {
        Tool tool = Run(args);
        Assert.Equal(exit, tool.Exit);
        Assert.Equal(string.Empty, tool.Output);
        Assert.StartsWith(code + ": ", tool.Error, StringComparison.Ordinal);
        Assert.EndsWith(Environment.NewLine, tool.Error, StringComparison.Ordinal);
        string line = tool.Error[..^Environment.NewLine.Length];
        Assert.DoesNotContain('\n', line);
        return line;
    }
}
