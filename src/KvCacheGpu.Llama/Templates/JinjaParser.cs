using System.Collections;
using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>
/// Translates a template of Jinja into a tree of Scriban's statements. It knows the part of Jinja that published chat templates use; all else is refused by name, at its line.
/// </summary>
internal sealed class JinjaParser
{
    private readonly JinjaReader _reader;
    private readonly JinjaExpressions _expressions;
    private readonly JinjaScopeNames _names = new();
    private bool _canLeave;
    private bool _isLeft;

    private JinjaParser(string template, bool hasClock)
    {
        _reader = new JinjaReader(JinjaLexer.Tokens(template));
        _expressions = new JinjaExpressions(_reader, hasClock) { Scope = new JinjaScope(null, _names) };
    }

    /// <summary>Translates a template.</summary>
    /// <param name="template">The template.</param>
    /// <param name="hasClock">True if there is a clock for strftime_now.</param>
    /// <returns>The tree, and the names whose values come from outside.</returns>
    /// <exception cref="JinjaException">The template is outside of the supported part.</exception>
    public static (ScriptBlockStatement Page, IReadOnlySet<string> Names) Parse(string template, bool hasClock)
    {
        JinjaParser parser = new(template, hasClock);
        List<ScriptStatement> statements = parser.Statements();
        return parser._reader.Now.Kind == JinjaTokenKind.End
            ? (Block([.. parser._expressions.Scope.Copies, .. statements]), parser._names.Outer)
            : throw new JinjaException($"the statement {parser._reader.Later} without its beginning", parser._reader.Now.Line);
    }

    private static ScriptBlockStatement Block(IEnumerable<ScriptStatement> statements)
    {
        ScriptBlockStatement block = new();
        foreach (ScriptStatement statement in statements)
        {
            block.Statements.Add(statement);
        }

        return block;
    }

    // Statements up to the end, or to a tag that continues or ends what they lie in.
    private List<ScriptStatement> Statements() => _reader.Nested(() =>
    {
        List<ScriptStatement> statements = [];
        while (_reader.Now.Kind != JinjaTokenKind.End)
        {
            if (_reader.Now.Kind == JinjaTokenKind.Text)
            {
                statements.Add(new ScriptRawStatement { Text = new ScriptStringSlice(_reader.Next().Text) });
            }
            else if (_reader.Skip("{{"))
            {
                int line = _reader.Now.Line;
                JinjaNode value = _expressions.Read();
                _reader.Expect("}}");
                statements.Add(new ScriptExpressionStatement { Expression = new JinjaNode(line, [value], c => JinjaOperators.Text(value.Of(c))) });
            }
            else if (_reader.Later is { Kind: JinjaTokenKind.Name, Text: "elif" or "else" or "endif" or "endfor" or "endset" or "endgeneration" })
            {
                break;
            }
            else
            {
                _reader.Expect("{%");
                statements.Add(Statement());
            }
        }

        return statements;
    });

    private ScriptStatement Statement()
    {
        JinjaToken keyword = _reader.Now;
        switch (_reader.Name())
        {
            case "if":
                return If();
            case "for":
                return For(keyword.Line);
            case "set":
                return Set(keyword.Line);
            case "generation":
                return Generation();
            case "break" or "continue" when !_canLeave:
                throw new JinjaException($"'{keyword.Text}' outside of a loop's body", keyword.Line);
            case "break" or "continue":
                _isLeft = true;
                _reader.Expect("%}");
                return keyword.Text == "break" ? new ScriptBreakStatement() : new ScriptContinueStatement();
            default:
                throw new JinjaException($"the statement '{keyword.Text}'", keyword.Line);
        }
    }

    // Takes "{% name %}" if it is next.
    private bool Skip(string name)
    {
        bool isNext = _reader.Now.IsSign("{%") && _reader.Later.IsName(name);
        if (isNext)
        {
            (_, _) = (_reader.Next(), _reader.Next());
        }

        return isNext;
    }

    private void End(string name)
    {
        if (!Skip(name))
        {
            throw _reader.Unexpected($"'{{% {name} %}}'");
        }

        _reader.Expect("%}");
    }

    private ScriptIfStatement If()
    {
        JinjaNode condition = _expressions.Or();
        _reader.Expect("%}");
        ScriptIfStatement statement = new() { Condition = condition, Then = Block(Statements()) };
        if (Skip("elif"))
        {
            // An "if" in the "else" that ends where this one does.
            statement.Else = _reader.Nested(If);
            return statement;
        }

        if (Skip("else"))
        {
            _reader.Expect("%}");
            statement.Else = new ScriptElseStatement { Body = Block(Statements()) };
        }

        End("endif");
        return statement;
    }

    private ScriptForStatement For(int line)
    {
        List<string> targets = [];
        do
        {
            string target = _reader.Name();
            targets.Add(target == "loop" ? throw new JinjaException("'loop' as the variable of a loop", line) : target);
        }
        while (_reader.Skip(","));
        if (!_reader.SkipName("in"))
        {
            throw _reader.Unexpected("'in'");
        }

        JinjaNode list = _expressions.Or();
        JinjaScope outer = _expressions.Scope;
        JinjaNode? condition = null;
        List<ScriptStatement> candidate = [];
        JinjaScope tested = new(outer, _names);
        ScriptVariableGlobal item = tested.Hidden();
        if (_reader.SkipName("if"))
        {
            candidate = Targets(tested, targets, line, c => c.GetValue(item)!);
            _expressions.Scope = tested;
            condition = _expressions.Read();
            _expressions.Scope = outer;
        }

        if (_reader.Now.IsName("recursive"))
        {
            throw new JinjaException("a recursive loop", line);
        }

        _reader.Expect("%}");
        ScriptVariableGlobal turn = outer.Hidden();
        JinjaScope inner = new(outer, _names) { Turn = turn };
        List<ScriptStatement> begin = Targets(inner, targets, line, c => ((JinjaTurn)c.GetValue(turn)!).Item);
        bool wasLeft = _isLeft;
        _isLeft = false;
        List<ScriptStatement> body = Inside(inner, canLeave: true);
        bool isLeft = _isLeft;
        _isLeft = wasLeft;
        ScriptForStatement loop = new()
        {
            Variable = new ScriptVariableGlobal(turn.Name),
            Iterator = new JinjaNode(line, [list, condition], c => Turns(c, list.Of(c), condition, item, candidate)),
            Body = Block([.. inner.Copies, .. begin, .. body]),
        };
        if (Skip("else"))
        {
            if (isLeft)
            {
                // Jinja takes the "else" also where each turn was left, which is no more than how it counts turns.
                throw new JinjaException("a loop with 'else' and with 'break' or 'continue'", line);
            }

            _reader.Expect("%}");
            JinjaScope empty = new(outer, _names);
            List<ScriptStatement> statements = Inside(empty, canLeave: false);
            loop.Else = new ScriptElseStatement { Body = Block([.. empty.Copies, .. statements]) };
        }

        End("endfor");
        return loop;
    }

    private List<ScriptStatement> Inside(JinjaScope scope, bool canLeave)
    {
        (JinjaScope outer, bool could) = (_expressions.Scope, _canLeave);
        (_expressions.Scope, _canLeave) = (scope, canLeave);
        List<ScriptStatement> statements = Statements();
        (_expressions.Scope, _canLeave) = (outer, could);
        return statements;
    }

    // Sets a loop's variables: to the item, or to its parts.
    private static List<ScriptStatement> Targets(JinjaScope scope, List<string> names, int line, Func<JinjaContext, object> item) =>
        [.. names.Select((name, i) => JinjaScope.Set(scope.Declare(name), new JinjaNode(line, [], c => names.Count == 1 ? item(c) : Part(c, item(c), i, names.Count))))];

    private static object Part(JinjaContext context, object item, int index, int count) =>
        JinjaOperators.Items(context, item) is var parts && parts.Count == count ? parts[index] : throw new JinjaException($"{parts.Count} parts for {count} variables");

    private static IEnumerable Turns(JinjaContext context, object list, JinjaNode? condition, ScriptVariableGlobal item, List<ScriptStatement> candidate)
    {
        IReadOnlyList<object> items = JinjaOperators.Items(context, list);
        if (condition is not null)
        {
            items = [.. items.Where(IsWanted)];
        }

        return Enumerable.Range(0, items.Count).Select(i => new JinjaTurn(items, i));

        bool IsWanted(object value)
        {
            context.SetValue(item, value);
            candidate.ForEach(c => c.Evaluate(context));
            return JinjaOperators.IsTrue(condition.Of(context));
        }
    }

    // Marks what a model is trained on; it is written as anything else.
    private ScriptBlockStatement Generation()
    {
        _reader.Expect("%}");
        ScriptBlockStatement block = Own();
        End("endgeneration");
        return block;
    }

    // A block whose names are its own, and which is no loop.
    private ScriptBlockStatement Own()
    {
        JinjaScope scope = new(_expressions.Scope, _names) { Turn = _expressions.Scope.Turn };
        List<ScriptStatement> statements = Inside(scope, canLeave: false);
        return Block([.. scope.Copies, .. statements]);
    }

    private ScriptExpressionStatement Set(int line)
    {
        string name = _reader.Name();
        string? attribute = _reader.Skip(".") ? _reader.Name() : null;
        if (name is "loop" or "true" or "false" or "none" or "True" or "False" or "None" || _reader.Now.IsSign(","))
        {
            throw new JinjaException($"a 'set' of '{name}{(_reader.Now.IsSign(",") ? ", ..." : string.Empty)}'", line);
        }

        if (attribute is null && _reader.Skip("%}"))
        {
            ScriptBlockStatement block = Own();
            End("endset");
            return JinjaScope.Set(_expressions.Scope.Assign(name), new JinjaNode(line, [], c => c.Capture(block)));
        }

        _reader.Expect("=");
        JinjaNode value = _expressions.Read();
        if (_reader.Now.IsSign(","))
        {
            throw new JinjaException("a tuple", line);
        }

        _reader.Expect("%}");
        if (attribute is null)
        {
            return JinjaScope.Set(_expressions.Scope.Assign(name), value);
        }

        ScriptVariableGlobal variable = _expressions.Scope.Find(name);
        return new ScriptExpressionStatement
        {
            Expression = new JinjaNode(line, [value], c =>
            {
                object set = value.Of(c);
                JinjaNamespace space = c.GetValue(variable) as JinjaNamespace ?? throw new JinjaException($"'set {name}.{attribute}' of what is no namespace");
                space.Items[attribute] = set;
                return null;
            }),
        };
    }
}
