using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>The filters and tests that are supported.</summary>
internal static class JinjaFilters
{
    // Jinja's filter begins a word after these; Python's method after any letter that is none.
    private const string WordStarts = "-({[<";

    private static readonly Dictionary<string, JinjaFunction> Filters = new(StringComparer.Ordinal)
    {
        ["trim"] = new(["chars"], 0, (c, v, a) => PythonText.Strip(Spent(c, v), Letters(a[0]), start: true, end: true)),
        ["upper"] = new([], 0, (c, v, _) => PythonText.Case(Spent(c, v), upper: true)),
        ["lower"] = new([], 0, (c, v, _) => PythonText.Case(Spent(c, v), upper: false)),
        ["capitalize"] = new([], 0, (c, v, _) => PythonText.Capitals(Spent(c, v), starts: null)),
        ["title"] = new([], 0, (c, v, _) => PythonText.Capitals(Spent(c, v), l => PythonText.IsSpace(l) || WordStarts.Contains(l, StringComparison.Ordinal))),
        ["string"] = new([], 0, (c, v, _) => Spent(c, v)),
        ["replace"] = new(["old", "new", "count"], 2, (c, v, a) => Replace(c, Spent(c, v), JinjaOperators.Text(a[0]!), JinjaOperators.Text(a[1]!), a[2])),
        ["length"] = new([], 0, (c, v, _) => Length(c, v)),
        ["count"] = new([], 0, (c, v, _) => Length(c, v)),
        ["list"] = new([], 0, (c, v, _) => new JinjaList(JinjaOperators.Items(c, v))),
        ["first"] = new([], 0, (c, v, _) => JinjaOperators.Items(c, v) is [var first, ..] ? first : new JinjaUndefined("the first of none")),
        ["last"] = new([], 0, (c, v, _) => v is JinjaSequence
            ? throw new JinjaException($"the last item of {JinjaOperators.Kind(v)}")
            : JinjaOperators.Items(c, v) is [.., var last] ? last : new JinjaUndefined("the last of none")),
        ["join"] = new(["d"], 0, (c, v, a) => Join(c, a[0] is { } d ? JinjaOperators.Text(d) : string.Empty, JinjaOperators.Items(c, v).Select(JinjaOperators.Text))),
        ["default"] = new(["default_value", "boolean"], 0, Default),
        ["d"] = new(["default_value", "boolean"], 0, Default),
        ["items"] = new([], 0, (c, v, _) => v is JinjaUndefined ? new JinjaSequence([]) : Pairs(c, v)),
        ["tojson"] = new(["indent"], 0, (c, v, a) => new JinjaJson(c, Indent(a[0])).Write(v)),
        ["select"] = new([string.Empty, string.Empty], 0, (c, v, a) => Select(c, v, [null, .. a], wanted: true)),
        ["reject"] = new([string.Empty, string.Empty], 0, (c, v, a) => Select(c, v, [null, .. a], wanted: false)),
        ["selectattr"] = new([string.Empty, string.Empty, string.Empty], 1, (c, v, a) => Select(c, v, a, wanted: true)),
        ["rejectattr"] = new([string.Empty, string.Empty, string.Empty], 1, (c, v, a) => Select(c, v, a, wanted: false)),
        ["map"] = new(["attribute"], 1, (c, v, a) => new JinjaSequence([.. JinjaOperators.Items(c, v).Select(i => Attribute(c, i, a[0]!))])),
    };

    private static readonly Dictionary<string, (int Arguments, Func<JinjaContext, object, object?, bool> Run)> Tests = new(StringComparer.Ordinal)
    {
        ["defined"] = (0, (_, v, _) => v is not JinjaUndefined),
        ["undefined"] = (0, (_, v, _) => v is JinjaUndefined),
        ["none"] = (0, (_, v, _) => v is JinjaNone),
        ["string"] = (0, (_, v, _) => v is string),
        ["mapping"] = (0, (_, v, _) => v is JinjaDict),
        ["sequence"] = (0, (_, v, _) => v is string or JinjaList or JinjaDict or JinjaUndefined),
        ["iterable"] = (0, (_, v, _) => v is string or JinjaList or JinjaDict or JinjaUndefined or JinjaSequence),
        ["boolean"] = (0, (_, v, _) => v is bool),
        ["true"] = (0, (_, v, _) => v is true),
        ["false"] = (0, (_, v, _) => v is false),
        ["number"] = (0, (_, v, _) => v is long or bool),
        ["integer"] = (0, (_, v, _) => v is long),
        ["odd"] = (0, (c, v, _) => Remainder(c, v, 2L) == 1),
        ["even"] = (0, (c, v, _) => Remainder(c, v, 2L) == 0),
        ["divisibleby"] = (1, (c, v, a) => Remainder(c, v, a!) == 0),
        ["in"] = (1, (c, v, a) => JinjaOperators.Compare(c, "in", v, a!)),
        ["equalto"] = (1, (c, v, a) => JinjaOperators.AreEqual(c, v, a!)),
        ["eq"] = (1, (c, v, a) => JinjaOperators.AreEqual(c, v, a!)),
        ["=="] = (1, (c, v, a) => JinjaOperators.AreEqual(c, v, a!)),
        ["ne"] = (1, (c, v, a) => !JinjaOperators.AreEqual(c, v, a!)),
        ["!="] = (1, (c, v, a) => !JinjaOperators.AreEqual(c, v, a!)),
    };

    /// <summary>The node of a filter.</summary>
    /// <exception cref="JinjaException">It is not supported, or not with these arguments.</exception>
    public static JinjaNode Filter(string name, JinjaNode value, JinjaArguments call, int line)
    {
        if (!Filters.TryGetValue(name, out JinjaFunction? filter))
        {
            throw new JinjaException($"the filter '{name}'", line);
        }

        if (name == "map" && call.Positional.Count > 0)
        {
            throw new JinjaException("the filter 'map' without 'attribute='", line);
        }

        JinjaNode?[] bound = filter.Bind($"the filter '{name}'", call, line);
        int tested = name is "selectattr" or "rejectattr" ? 1 : name is "select" or "reject" ? 0 : -1;
        if (tested >= 0 && bound[tested] is { } test
            && !(test.Constant is string named && Tests.TryGetValue(named, out var known) && known.Arguments == (bound[tested + 1] is null ? 0 : 1)))
        {
            throw new JinjaException($"the filter '{name}' with the test {(test.Constant is string other ? $"'{other}'" : "that another expression names")}", line);
        }

        return new JinjaNode(line, [value, .. bound], c => filter.Run(c, value.Of(c), [.. bound.Select(b => b?.Of(c))]));
    }

    /// <summary>The node of a test.</summary>
    /// <exception cref="JinjaException">It is not supported, or not with these arguments.</exception>
    public static JinjaNode Test(string name, JinjaNode value, JinjaArguments call, int line)
    {
        if (!Tests.TryGetValue(name, out var test) || call.Named.Count > 0 || call.Positional.Count != test.Arguments)
        {
            throw new JinjaException($"the test '{name}'{(test.Run is null ? string.Empty : $" with {call.Positional.Count + call.Named.Count} arguments")}", line);
        }

        JinjaNode? argument = test.Arguments == 0 ? null : call.Positional[0];
        return new JinjaNode(line, [value, argument], c => test.Run(c, value.Of(c), argument?.Of(c)));
    }

    /// <summary>Texts with a separator between each two.</summary>
    public static string Join(JinjaContext context, string separator, IEnumerable<string> texts)
    {
        StringBuilder joined = new();
        bool isFirst = true;
        foreach (string text in texts)
        {
            string between = isFirst ? string.Empty : separator;
            context.Spend(between.Length + text.Length);
            context.Check((long)joined.Length + between.Length + text.Length);
            joined.Append(between).Append(text);
            isFirst = false;
        }

        return joined.ToString();
    }

    /// <summary>A text in which another stands for each occurrence of one, of the first <paramref name="count"/> if that is given.</summary>
    public static string Replace(JinjaContext context, string text, string old, string with, object? count)
    {
        if (old.Length == 0 || count is not (null or JinjaNone))
        {
            throw new JinjaException("a replacement of nothing, or of a number of occurrences");
        }

        return Join(context, with, PythonText.Split(text, old, -1).Select(JinjaOperators.Text));
    }

    /// <summary>Keys and values of a dictionary in pairs.</summary>
    public static JinjaSequence Pairs(JinjaContext context, object value)
    {
        OrderedDictionary<string, object> items = value is JinjaDict dict ? dict.Items : throw new JinjaException($"the items of {JinjaOperators.Kind(value)}");
        context.Spend(items.Count);
        return new JinjaSequence([.. items.Select(i => new JinjaList([i.Key, i.Value], isTuple: true))]);
    }

    /// <summary>The text of a value, whose length is work.</summary>
    public static string Spent(JinjaContext context, object value)
    {
        string text = JinjaOperators.Text(value);
        context.Spend(text.Length);
        return text;
    }

    /// <summary>Letters to strip; null for white space.</summary>
    public static string? Letters(object? argument) => argument switch
    {
        null or JinjaNone => null,
        string text => text,
        _ => throw new JinjaException($"{JinjaOperators.Kind(argument)} as letters to strip"),
    };

    private static long Length(JinjaContext context, object value)
    {
        context.Spend(value is string spent ? spent.Length : 0);
        return value switch
        {
            string text => PythonText.Length(text),
            JinjaList list => list.Items.Count,
            JinjaDict dict => dict.Items.Count,
            JinjaUndefined => 0,
            _ => throw new JinjaException($"the length of {JinjaOperators.Kind(value)}"),
        };
    }

    private static object Default(JinjaContext context, object value, object?[] arguments) =>
        value is JinjaUndefined || (arguments[1] is { } boolean && JinjaOperators.IsTrue(boolean) && !JinjaOperators.IsTrue(value))
            ? arguments[0] ?? string.Empty
            : value;

    private static int? Indent(object? argument) => argument switch
    {
        null or JinjaNone => null,
        long and >= 0 and <= 16 and var spaces => (int)(long)spaces,
        _ => throw new JinjaException("an indent that is no number of 0..16"),
    };

    private static JinjaSequence Select(JinjaContext context, object value, object?[] arguments, bool wanted)
    {
        Func<JinjaContext, object, object?, bool> test = arguments[1] is string name ? Tests[name].Run : (_, v, _) => JinjaOperators.IsTrue(v);
        return new JinjaSequence([.. JinjaOperators.Items(context, value).Where(IsWanted)]);

        bool IsWanted(object item) => test(context, arguments[0] is { } attribute ? Attribute(context, item, attribute) : item, arguments[2]) == wanted;
    }

    // Jinja reads "a.b" as a path and "0" as an index.
    private static object Attribute(JinjaContext context, object item, object name) =>
        name is string text && text.Length > 0 && !text.Contains('.', StringComparison.Ordinal) && !text.Any(char.IsDigit)
            ? JinjaAccess.Item(context, item, text)
            : throw new JinjaException($"the attribute {JinjaOperators.Kind(name)} that is no plain name");

    private static long Remainder(JinjaContext context, object value, object by) => (long)JinjaOperators.Combine(
        context, "%", value is long or bool ? value : throw new JinjaException($"the remainder of {JinjaOperators.Kind(value)}"), by);
}
