using System.Text.Json;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>The output of a command: results go to one writer, errors and remarks to the other.</summary>
internal sealed class Terminal
{
    // Wide enough for every table, because a file or a pipe has no right margin.
    private const int PlainWidth = 160;
    private const int RoomyWidth = 112;

    private static readonly JsonSerializerOptions _json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Writes to the given writers, with colours and moving bars only if the first is a console.</summary>
    public Terminal(TextWriter output, TextWriter error, TextReader? input = null)
    {
        (Output, Error, Input) = (output, error, input ?? Console.In);
        IsConsole = ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected;
    }

    /// <summary>The writer of results.</summary>
    public TextWriter Output { get; }

    /// <summary>The reader of answers to questions of a command.</summary>
    public TextReader Input { get; }

    /// <summary>The writer of errors and remarks.</summary>
    public TextWriter Error { get; }

    /// <summary>True if results go to a console, on which bars can move.</summary>
    public bool IsConsole { get; }

    /// <summary>Writes the one document of a command under --json, with keys in snake_case.</summary>
    public void WriteJson<T>(T document) => Output.WriteLine(JsonSerializer.Serialize(document, _json));

    /// <summary>Writes a table, or anything else that Spectre draws.</summary>
    public void Write(Spectre.Console.Rendering.IRenderable drawing) => CreateConsole().Write(drawing);

    /// <summary>Makes a table in the style of all commands. A column named "#..." holds numbers: aligned to the right, and never wrapped.</summary>
    public Table NewTable(params ReadOnlySpan<string> columns)
    {
        // Lines of ASCII can be written to any file, pipe and log. In a narrow window, vertical lines would take space from the text.
        bool isNarrow = IsConsole && AnsiConsole.Profile.Width < RoomyWidth;
        Table table = new() { Border = !IsConsole ? TableBorder.Ascii : isNarrow ? TableBorder.Horizontal : TableBorder.Rounded };
        foreach (string column in columns)
        {
            bool isNumber = column.StartsWith('#');
            table.AddColumn(new TableColumn(Markup.Escape(column.TrimStart('#')))
            {
                Alignment = isNumber ? Justify.Right : Justify.Left,
                NoWrap = isNumber,
                Padding = isNarrow ? new Padding(0, 0, 1, 0) : new Padding(1, 0, 1, 0),
            });
        }

        return table;
    }

    /// <summary>Runs work under a progress bar: with a line per stage if there is no console, with none if <paramref name="quiet"/>.</summary>
    public T WithProgress<T>(bool quiet, Func<IStages, T> work)
    {
        if (quiet)
        {
            return work(new QuietStages());
        }

        if (!IsConsole)
        {
            return work(new PlainStages(Output));
        }

        return CreateConsole().Progress()
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new ElapsedTimeColumn())
            .Start(context => work(new BarStages(context)));
    }

    private IAnsiConsole CreateConsole()
    {
        if (IsConsole)
        {
            return AnsiConsole.Console;
        }

        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(Output),
        });
        console.Profile.Width = PlainWidth;
        return console;
    }
}
