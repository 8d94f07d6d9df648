namespace KvCacheGpu.Llama;

/// <summary>The functions that transformers and Jinja give to a chat template.</summary>
internal static class JinjaFunctions
{
    private const int MostRange = 100_000; // As in Jinja's sandbox.

    private static readonly string[] Known = ["raise_exception", "namespace", "range", "strftime_now"];
    private static readonly string[] Others = ["dict", "lipsum", "cycler", "joiner"];

    /// <summary>True for a function that is supported.</summary>
    public static bool IsKnown(string name) => Known.Contains(name);

    /// <summary>True for a function of Jinja's that is not supported.</summary>
    public static bool IsOther(string name) => Others.Contains(name);

    /// <summary>The node of a function's call.</summary>
    /// <exception cref="JinjaException">It does not take these arguments.</exception>
    public static JinjaNode Call(string name, JinjaArguments call, int line)
    {
        IReadOnlyList<JinjaNode> given = call.Positional;
        if (name == "namespace" ? given.Count > 0 : call.Named.Count > 0 || given.Count < 1 || given.Count > (name == "range" ? 3 : 1))
        {
            throw new JinjaException($"the function '{name}' with these arguments", line);
        }

        return new JinjaNode(line, [.. given, .. call.Named.Values], name switch
        {
            "raise_exception" => c => throw new JinjaException(JinjaOperators.Text(given[0].Of(c))) { IsRaised = true },
            "namespace" => c => new JinjaNamespace(call.Named.ToDictionary(n => n.Key, n => n.Value.Of(c), StringComparer.Ordinal)),
            "strftime_now" => c => PythonText.Date(
                c.Clock!.GetLocalNow(), given[0].Of(c) as string ?? throw new JinjaException("strftime_now without a format")),
            _ => c => Range(c, [.. given.Select(g => JinjaOperators.Number(g.Of(c)) ?? throw new JinjaException($"a range of {JinjaOperators.Kind(g.Of(c))}"))]),
        });
    }

    private static JinjaSequence Range(JinjaContext context, long[] bounds)
    {
        (long from, long to, long step) = (bounds.Length == 1 ? 0 : bounds[0], bounds[bounds.Length == 1 ? 0 : 1], bounds.Length == 3 ? bounds[2] : 1);
        Int128 span = step > 0 ? (Int128)to - from : (Int128)from - to;
        Int128 count = step == 0 || span <= 0 ? 0 : (span + Int128.Abs(step) - 1) / Int128.Abs(step);
        if (step == 0 || count > MostRange)
        {
            throw new JinjaException(step == 0 ? "a range with a step of 0" : $"a range of more than {MostRange} numbers");
        }

        context.Spend((long)count);
        return new JinjaSequence([.. Enumerable.Range(0, (int)count).Select(i => (object)(from + (i * step)))]);
    }
}
