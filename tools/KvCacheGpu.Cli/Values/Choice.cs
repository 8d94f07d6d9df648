using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using KvCacheGpu.Catalog;

namespace KvCacheGpu.Cli;

/// <summary>Reads an option's text; returns false if it is not one of its values.</summary>
internal delegate bool TryRead<T>(string text, out T? value);

/// <summary>The options that commands share, each with an error that names the values it takes.</summary>
internal static class Choice
{
    /// <summary>--json.</summary>
    public static Option<bool> Json() => new("--json") { Description = "Print one JSON document on stdout and nothing else." };

    /// <summary>An option with a text.</summary>
    public static Option<string?> Text(string name, string placeholder, string description) =>
        new(name) { Description = description, HelpName = placeholder };

    /// <summary>An option with a text that may be given several times.</summary>
    public static Option<string[]?> Texts(string name, string placeholder, string description)
    {
        Option<string[]?> option = new(name) { Description = description, HelpName = placeholder, Arity = ArgumentArity.OneOrMore };
        option.Validators.Add(result =>
        {
            // The parser only checks that there is one text, however often the option was named.
            if (result.Tokens.Count < result.IdentifierTokenCount)
            {
                result.AddError($"E003: {name}: expected a text each time, got {result.Tokens.Count} for {result.IdentifierTokenCount}");
            }
        });
        return option;
    }

    /// <summary>An option with a whole number, <paramref name="least"/> or more.</summary>
    public static Option<int?> Number(string name, string description, int least) => Parsed<int?>(
        name,
        "N",
        description,
        least == int.MinValue ? "a whole number" : $"a whole number of {least} or more",
        (string text, out int? value) =>
        {
            value = int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) ? number : null;
            return value >= least;
        });

    /// <summary>--database.</summary>
    /// <param name="what">The use of the catalog.</param>
    /// <param name="isRequired">True if the command needs one. The default value is false.</param>
    public static Option<string> Database(string what, bool isRequired = false)
    {
        Option<string> option = new("--database")
        {
            Description = $"{what}: sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME, or SQLAlchemy's form of either; PGPASSWORD holds a password too.{(isRequired ? string.Empty : " Default: none.")}",
            HelpName = "URL",
            Required = isRequired,
        };
        option.Validators.Add(result =>
        {
            // The address is read before anything else is done, so that a wrong address leaves nothing behind.
            try
            {
                _ = result.Tokens is [Token token, ..] ? Catalogs.Schema(token.Value) : null;
            }
            catch (CatalogException error)
            {
                result.AddError(error.Message.Replace("database:", "--database:", StringComparison.Ordinal));
            }
        });
        return option;
    }

    /// <summary>An option with a page format.</summary>
    public static Option<PageFormat?> Format(string name, string description) => Parsed<PageFormat?>(
        name,
        string.Join('|', Enum.GetValues<PageFormat>().Select(f => f.Name())),
        description,
        string.Join(", ", Enum.GetValues<PageFormat>().Select(f => f.Name())),
        (string text, out PageFormat? value) =>
        {
            value = PageFormats.TryParse(text, out PageFormat format) ? format : null;
            return value is not null;
        });

    /// <summary>--memory-budget.</summary>
    public static Option<MemoryBudget?> Budget() => Parsed<MemoryBudget?>(
        "--memory-budget", "BYTES|N%", "Bytes that the cache may take (64MiB, 1.5GB), or percent of a dense F16 cache.", MemoryBudget.Expected, MemoryBudget.TryParse);

    /// <summary>An option read by a function.</summary>
    public static Option<T?> Parsed<T>(string name, string placeholder, string description, string expected, TryRead<T> read) => new(name)
    {
        Description = description,
        HelpName = placeholder,
        CustomParser = (ArgumentResult result) =>
        {
            string text = result.Tokens is [Token token, ..] ? token.Value : string.Empty;
            if (!read(text, out T? value))
            {
                result.AddError($"E003: {name}: expected {expected}, got \"{text}\"");
            }

            return value;
        },
    };
}
