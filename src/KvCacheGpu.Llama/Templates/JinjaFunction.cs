namespace KvCacheGpu.Llama;

/// <summary>A filter, method or function of Jinja.</summary>
/// <param name="Parameters">Names of its parameters after the value itself, in order; one that has no name in Jinja is empty.</param>
/// <param name="Required">How many of them a call must give.</param>
/// <param name="Run">Gives the result for the value and the arguments; an argument that was not given is null.</param>
internal sealed record JinjaFunction(string[] Parameters, int Required, Func<JinjaContext, object, object?[], object> Run)
{
    /// <summary>Puts the arguments of a call in the order of the parameters.</summary>
    /// <exception cref="JinjaException">They are too many, too few, or have other names.</exception>
    public JinjaNode?[] Bind(string name, JinjaArguments call, int line)
    {
        JinjaNode?[] bound = new JinjaNode?[Parameters.Length];
        if (call.Positional.Count > bound.Length)
        {
            throw new JinjaException($"{name} with {call.Positional.Count} arguments", line);
        }

        for (int i = 0; i < call.Positional.Count; i++)
        {
            bound[i] = call.Positional[i];
        }

        foreach ((string key, JinjaNode value) in call.Named)
        {
            int at = Array.IndexOf(Parameters, key);
            if (at < 0 || bound[at] is not null)
            {
                throw new JinjaException($"{name} with the argument '{key}'", line);
            }

            bound[at] = value;
        }

        return bound.AsSpan(0, Required).Contains(null) ? throw new JinjaException($"{name} without an argument that it needs", line) : bound;
    }
}

/// <summary>The arguments of a call.</summary>
/// <param name="Positional">Those without a name.</param>
/// <param name="Named">Those with a name.</param>
internal sealed record JinjaArguments(IReadOnlyList<JinjaNode> Positional, IReadOnlyDictionary<string, JinjaNode> Named)
{
    /// <summary>No arguments.</summary>
    public static readonly JinjaArguments None = new([], new Dictionary<string, JinjaNode>());
}
