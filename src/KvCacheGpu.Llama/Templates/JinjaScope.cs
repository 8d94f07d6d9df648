using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>
/// The names of the template itself or of a loop's body. In Jinja what a loop's body sets is forgotten when a turn ends, in Scriban it stays:
/// so each scope has variables of its own, and a turn begins by copying those from outside that its body sets.
/// </summary>
internal sealed class JinjaScope(JinjaScope? parent, JinjaScopeNames names)
{
    private readonly Dictionary<string, ScriptVariableGlobal> _variables = new(StringComparer.Ordinal);

    /// <summary>The loop to which this body belongs; null in the template itself.</summary>
    public ScriptVariableGlobal? Turn { get; init; }

    /// <summary>The copies with which a turn begins.</summary>
    public List<ScriptStatement> Copies { get; } = [];

    /// <summary>The variable of a name that is read.</summary>
    public ScriptVariableGlobal Find(string name)
    {
        for (JinjaScope? scope = this; scope is not null; scope = scope.Parent)
        {
            if (scope._variables.TryGetValue(name, out ScriptVariableGlobal? found))
            {
                return found;
            }
        }

        names.Outer.Add(name);
        return new ScriptVariableGlobal(name);
    }

    /// <summary>The variable of a name that is set: its own, which begins with the value from outside.</summary>
    public ScriptVariableGlobal Assign(string name)
    {
        if (_variables.TryGetValue(name, out ScriptVariableGlobal? own))
        {
            return own;
        }

        ScriptVariableGlobal outer = Find(name);
        own = Declare(name);
        Copies.Add(Set(own, new JinjaNode(0, [], c => c.GetValue(outer))));
        return own;
    }

    /// <summary>A new variable of this scope.</summary>
    public ScriptVariableGlobal Declare(string name)
    {
        ScriptVariableGlobal variable = new($"{name}#{names.Next()}");
        _variables[name] = variable;
        return variable;
    }

    /// <summary>A variable that no template can name.</summary>
    public ScriptVariableGlobal Hidden() => new($"#{names.Next()}");

    /// <summary>The statement that sets a variable.</summary>
    public static ScriptExpressionStatement Set(ScriptVariableGlobal variable, JinjaNode value) =>
        new() { Expression = new ScriptAssignExpression { Target = new ScriptVariableGlobal(variable.Name), Value = value } };

    private JinjaScope? Parent => parent;
}

/// <summary>What the scopes of a template share.</summary>
internal sealed class JinjaScopeNames
{
    private int _count;

    /// <summary>Names that the template reads and does not set itself.</summary>
    public HashSet<string> Outer { get; } = new(StringComparer.Ordinal);

    /// <summary>A new number.</summary>
    public int Next() => ++_count;
}
