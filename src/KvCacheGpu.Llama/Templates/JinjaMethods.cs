namespace KvCacheGpu.Llama;

/// <summary>The methods of Python's values that are supported.</summary>
internal static class JinjaMethods
{
    private static readonly string[] One = [string.Empty];
    private static readonly string[] Two = [string.Empty, string.Empty];

    private static readonly Dictionary<string, JinjaFunction> Methods = new(StringComparer.Ordinal)
    {
        ["strip"] = OfText(One, 0, (_, t, a) => PythonText.Strip(t, JinjaFilters.Letters(a[0]), start: true, end: true)),
        ["lstrip"] = OfText(One, 0, (_, t, a) => PythonText.Strip(t, JinjaFilters.Letters(a[0]), start: true, end: false)),
        ["rstrip"] = OfText(One, 0, (_, t, a) => PythonText.Strip(t, JinjaFilters.Letters(a[0]), start: false, end: true)),
        ["upper"] = OfText([], 0, (_, t, _) => PythonText.Case(t, upper: true)),
        ["lower"] = OfText([], 0, (_, t, _) => PythonText.Case(t, upper: false)),
        ["capitalize"] = OfText([], 0, (_, t, _) => PythonText.Capitals(t, starts: null)),
        ["title"] = OfText([], 0, (_, t, _) => PythonText.Capitals(t, l => !char.IsAsciiLetter(l))),
        ["startswith"] = OfText(One, 1, (_, t, a) => t.StartsWith(Text(a[0]), StringComparison.Ordinal)),
        ["endswith"] = OfText(One, 1, (_, t, a) => t.EndsWith(Text(a[0]), StringComparison.Ordinal)),
        ["replace"] = OfText(Two, 2, (c, t, a) => JinjaFilters.Replace(c, t, Text(a[0]), Text(a[1]), null)),
        ["split"] = OfText(["sep", "maxsplit"], 0, Split),
        ["join"] = OfText(One, 1, (c, t, a) => JinjaFilters.Join(c, t, JinjaOperators.Items(c, a[0]!).Select(Text))),
        ["items"] = OfDict([], 0, (c, d, _) => JinjaFilters.Pairs(c, d)),
        ["keys"] = OfDict([], 0, (c, d, _) => new JinjaSequence(JinjaOperators.Items(c, d))),
        ["values"] = OfDict([], 0, (c, d, _) => new JinjaSequence([.. JinjaOperators.Items(c, d).Select(k => d.Items[(string)k])])),
        ["get"] = OfDict(Two, 1, (_, d, a) => d.Items.GetValueOrDefault(Text(a[0])) ?? a[1] ?? JinjaNone.Value),
    };

    /// <summary>The node of a method's call.</summary>
    /// <exception cref="JinjaException">The method is not supported, or not with these arguments.</exception>
    public static JinjaNode Call(string name, JinjaNode value, JinjaArguments call, int line)
    {
        if (!Methods.TryGetValue(name, out JinjaFunction? method))
        {
            throw new JinjaException($"the method '{name}'", line);
        }

        JinjaNode?[] bound = method.Bind($"the method '{name}'", call, line);
        return new JinjaNode(line, [value, .. bound], c => method.Run(c, value.Of(c), [.. bound.Select(b => b?.Of(c))]));
    }

    private static JinjaFunction OfText(string[] parameters, int required, Func<JinjaContext, string, object?[], object> run) =>
        new(parameters, required, (c, v, a) => v is string text
            ? run(c, JinjaFilters.Spent(c, text), a)
            : throw new JinjaException($"a method of strings on {JinjaOperators.Kind(v)}"));

    private static JinjaFunction OfDict(string[] parameters, int required, Func<JinjaContext, JinjaDict, object?[], object> run) =>
        new(parameters, required, (c, v, a) => v is JinjaDict dict
            ? run(c, dict, a)
            : throw new JinjaException($"a method of dictionaries on {JinjaOperators.Kind(v)}"));

    private static JinjaList Split(JinjaContext context, string text, object?[] arguments)
    {
        string? separator = arguments[0] is null or JinjaNone ? null : Text(arguments[0]);
        long most = arguments[1] is null ? -1 : JinjaOperators.Number(arguments[1]!) ?? throw new JinjaException("a maxsplit that is no number");
        return new JinjaList(PythonText.Split(text, separator, most));
    }

    private static string Text(object? argument) =>
        argument as string ?? throw new JinjaException($"{JinjaOperators.Kind(argument!)} where a method takes a string");
}
