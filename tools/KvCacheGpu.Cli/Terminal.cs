using System.Text.Json;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>Where a command writes: results to one writer, errors and remarks to the other.</summary>
internal sealed class Terminal
{
    // Wide enough for every table: a file or a pipe has no right margin to wrap at.
    private const int PlainWidth = 160;
    private const int RoomyWidth = 112;

    private static readonly JsonSerializerOptions _json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Writes to the given writers; colours and moving bars only where the first is a console.</summary>
    public Terminal(TextWriter output, TextWriter error, TextReader? input = null)
    {
        (Output, Error, Input) = (output, error, input ?? Console.In);
        IsConsole = ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected;
    }

    /// <summary>Results.</summary>
    public TextWriter Output { get; }

    /// <summary>Answers to what a command asks.</summary>
    public TextReader Input { get; }

    /// <summary>Errors and remarks.</summary>
    public TextWriter Error { get; }

    /// <summary>Whether results go to a console, where bars move.</summary>
    public bool IsConsole { get; }

    /// <summary>Writes the one document of a command under --json, keys in snake_case.</summary>
    public void WriteJson<T>(T document) => Output.WriteLine(JsonSerializer.Serialize(document, _json));

    /// <summary>Writes a table, or anything else that Spectre draws.</summary>
    public void Write(Spectre.Console.Rendering.IRenderable drawing) => CreateConsole().Write(drawing);

    /// <summary>A table in the style of all commands. A column named "#..." holds numbers: right, never wrapped.</summary>
    public Table NewTable(params ReadOnlySpan<string> columns)
    {
        // Lines of ASCII survive any file, pipe and log; in a narrow window the space goes to what is said.
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

    /// <summary>Runs work under a progress bar; a line per stage where there is no terminal, none where <paramref name="quiet"/>.</summary>
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
