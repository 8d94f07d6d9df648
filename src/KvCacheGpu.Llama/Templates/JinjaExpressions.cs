using System.Globalization;
using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>Reads expressions, with the precedences of Jinja's own parser: a filter or test binds closer than any operator.</summary>
internal sealed class JinjaExpressions(JinjaReader reader, bool hasClock)
{
    private static readonly string[] Comparisons = ["==", "!=", "<", "<=", ">", ">="];

    /// <summary>The names that are visible where the reader is.</summary>
    public required JinjaScope Scope { get; set; }

    /// <summary>Reads <c>a if b else c</c>, or what binds closer.</summary>
    public JinjaNode Read() => reader.Nested(() =>
    {
        JinjaNode value = Or();
        while (reader.Now.IsName("if"))
        {
            int line = reader.Next().Line;
            JinjaNode then = value;
            JinjaNode condition = Or();
            JinjaNode? other = reader.SkipName("else") ? Read() : null;
            value = new JinjaNode(line, [then, condition, other], c =>
                JinjaOperators.IsTrue(condition.Of(c)) ? then.Of(c) : other?.Of(c) ?? new JinjaUndefined("an if without else"));
        }

        return value;
    });

    /// <summary>Reads an expression without <c>if</c>, as the list of a loop and its condition are.</summary>
    public JinjaNode Or() => Logic("or", () => Logic("and", Not));

    // "or" gives the first operand that is true, "and" the first that is not, else the last; the second is evaluated only then.
    private JinjaNode Logic(string keyword, Func<JinjaNode> operand)
    {
        JinjaNode left = operand();
        while (reader.Now.IsName(keyword))
        {
            int line = reader.Next().Line;
            JinjaNode first = left;
            JinjaNode second = operand();
            bool stops = keyword == "or";
            left = new JinjaNode(line, [first, second], c => first.Of(c) is var value && JinjaOperators.IsTrue(value) == stops ? value : second.Of(c));
        }

        return left;
    }

    private JinjaNode Not()
    {
        if (!reader.Now.IsName("not"))
        {
            return Comparison();
        }

        int line = reader.Next().Line;
        JinjaNode value = reader.Nested(Not);
        return Opposite(value, line);
    }

    private static JinjaNode Opposite(JinjaNode value, int line) => new(line, [value], c => !JinjaOperators.IsTrue(value.Of(c)));

    // As in Python, a < b < c means a < b and b < c.
    private JinjaNode Comparison()
    {
        JinjaNode first = Sum();
        List<(string Sign, JinjaNode Right)> others = [];
        int line = reader.Now.Line;
        while (true)
        {
            string? sign = reader.Now.Kind == JinjaTokenKind.Sign ? Array.Find(Comparisons, reader.Now.IsSign) : null;
            sign ??= reader.Now.IsName("in") ? "in" : reader.Now.IsName("not") && reader.Later.IsName("in") ? "not in" : null;
            if (sign is null)
            {
                break;
            }

            reader.Next();
            if (sign == "not in")
            {
                reader.Next();
            }

            others.Add((sign, Sum()));
        }

        return others.Count == 0 ? first : new JinjaNode(line, [first, .. others.Select(o => o.Right)], c =>
        {
            object left = first.Of(c);
            foreach ((string sign, JinjaNode next) in others)
            {
                object right = next.Of(c);
                if (!JinjaOperators.Compare(c, sign, left, right))
                {
                    return false;
                }

                left = right;
            }

            return true;
        });
    }

    private JinjaNode Sum() => Arithmetic(["+", "-"], () => Arithmetic(["~"], () => Arithmetic(["*", "//", "%"], Unary)));

    private JinjaNode Arithmetic(string[] signs, Func<JinjaNode> operand)
    {
        JinjaNode left = operand();
        while (reader.Now.Kind == JinjaTokenKind.Sign && Array.Find(signs, reader.Now.IsSign) is { } sign)
        {
            int line = reader.Next().Line;
            JinjaNode first = left;
            JinjaNode second = operand();
            left = new JinjaNode(line, [first, second], c => JinjaOperators.Combine(c, sign, first.Of(c), second.Of(c)));
        }

        return reader.Now.IsSign("/") || reader.Now.IsSign("**") ? throw new JinjaException($"the operator {reader.Now}", reader.Now.Line) : left;
    }

    private JinjaNode Unary()
    {
        JinjaNode value = Signed();
        while (true)
        {
            int line = reader.Now.Line;
            if (reader.Skip("|"))
            {
                string name = reader.Name();
                value = JinjaFilters.Filter(name, value, reader.Now.IsSign("(") ? Arguments() : JinjaArguments.None, line);
            }
            else if (reader.SkipName("is"))
            {
                bool isOpposite = reader.SkipName("not");
                value = Test(value, line);
                value = isOpposite ? Opposite(value, line) : value;
            }
            else
            {
                return value;
            }
        }
    }

    private JinjaNode Test(JinjaNode value, int line)
    {
        string name = reader.Name();
        JinjaArguments call = JinjaArguments.None;
        if (reader.Now.IsSign("("))
        {
            call = Arguments();
        }
        else if (reader.Now is { Kind: JinjaTokenKind.String or JinjaTokenKind.Integer }
            || reader.Now.IsSign("[") || reader.Now.IsSign("{")
            || (reader.Now.Kind == JinjaTokenKind.Name && !(reader.Now.IsName("else") || reader.Now.IsName("or") || reader.Now.IsName("and"))))
        {
            if (reader.Now.IsName("is"))
            {
                throw reader.Unexpected("no second test");
            }

            call = call with { Positional = [Postfix(Primary())] };
        }

        return JinjaFilters.Test(name, value, call, line);
    }

    private JinjaNode Signed()
    {
        if (reader.Now.IsSign("-") || reader.Now.IsSign("+"))
        {
            JinjaToken sign = reader.Next();
            JinjaNode value = reader.Nested(Signed);
            return Postfix(new JinjaNode(sign.Line, [value], c => sign.Text == "-"
                ? JinjaOperators.Negate(value.Of(c))
                : JinjaOperators.Number(value.Of(c)) ?? throw new JinjaException($"'+' of {JinjaOperators.Kind(value.Of(c))}")));
        }

        return Postfix(Primary());
    }

    private JinjaNode Postfix(JinjaNode value)
    {
        while (true)
        {
            int line = reader.Now.Line;
            JinjaNode owner = value;
            if (reader.Skip("."))
            {
                if (reader.Now.Kind == JinjaTokenKind.Integer)
                {
                    JinjaNode index = Primary();
                    value = new JinjaNode(line, [owner], c => JinjaAccess.Item(c, owner.Of(c), index.Of(c)));
                    continue;
                }

                string name = reader.Name();
                if (name.StartsWith('_'))
                {
                    throw new JinjaException($"the attribute '{name}'", line);
                }

                value = reader.Now.IsSign("(")
                    ? JinjaMethods.Call(name, owner, Arguments(), line)
                    : new JinjaNode(line, [owner], c => JinjaAccess.Attribute(owner.Of(c), name));
            }
            else if (reader.Skip("["))
            {
                value = Subscript(owner, line);
            }
            else
            {
                return reader.Now.IsSign("(") ? throw new JinjaException("a call of what is no known function", line) : value;
            }
        }
    }

    private JinjaNode Subscript(JinjaNode owner, int line)
    {
        JinjaNode none = new(line, JinjaNone.Value);
        JinjaNode from = reader.Now.IsSign(":") ? none : Read();
        JinjaNode node;
        if (reader.Skip(":"))
        {
            JinjaNode to = reader.Now.IsSign(":") || reader.Now.IsSign("]") ? none : Read();
            JinjaNode step = reader.Skip(":") && !reader.Now.IsSign("]") ? Read() : none;
            node = new JinjaNode(line, [owner, from, to, step], c => JinjaOperators.Slice(c, owner.Of(c), from.Of(c), to.Of(c), step.Of(c)));
        }
        else
        {
            node = new JinjaNode(line, [owner, from], c => JinjaAccess.Item(c, owner.Of(c), from.Of(c)));
        }

        reader.Expect("]");
        return node;
    }

    private JinjaArguments Arguments()
    {
        reader.Expect("(");
        List<JinjaNode> positional = [];
        Dictionary<string, JinjaNode> named = new(StringComparer.Ordinal);
        while (!reader.Now.IsSign(")"))
        {
            if (reader.Now.IsSign("*") || reader.Now.IsSign("**"))
            {
                throw new JinjaException($"arguments by {reader.Now}", reader.Now.Line);
            }

            if (reader.Now.Kind == JinjaTokenKind.Name && reader.Later.IsSign("="))
            {
                (string name, _) = (reader.Next().Text, reader.Next());
                if (!named.TryAdd(name, Read()))
                {
                    throw reader.Unexpected($"no second '{name}'");
                }
            }
            else
            {
                positional.Add(named.Count == 0 ? Read() : throw reader.Unexpected("an argument with a name"));
            }

            if (!reader.Skip(","))
            {
                break;
            }
        }

        reader.Expect(")");
        return new JinjaArguments(positional, named);
    }

    private JinjaNode Primary()
    {
        JinjaToken token = reader.Next();
        switch (token.Kind)
        {
            case JinjaTokenKind.String:
                string text = token.Text;
                while (reader.Now.Kind == JinjaTokenKind.String)
                {
                    text += reader.Next().Text;
                }

                return new JinjaNode(token.Line, text);
            case JinjaTokenKind.Integer:
                return new JinjaNode(token.Line, long.Parse(token.Text, CultureInfo.InvariantCulture));
            case JinjaTokenKind.Name:
                return Named(token);
            case JinjaTokenKind.Sign when token.Text == "(":
                JinjaNode value = Read();
                reader.Expect(")");
                return value;
            case JinjaTokenKind.Sign when token.Text == "[":
                List<JinjaNode> items = List("]", Read);
                return new JinjaNode(token.Line, items, c => new JinjaList([.. items.Select(i => i.Of(c))]));
            case JinjaTokenKind.Sign when token.Text == "{":
                return Dictionary(token.Line);
            default:
                throw new JinjaException($"{token} where a value is expected", token.Line);
        }
    }

    private List<T> List<T>(string end, Func<T> read)
    {
        List<T> items = [];
        while (!reader.Now.IsSign(end))
        {
            items.Add(read());
            if (!reader.Skip(","))
            {
                break;
            }
        }

        reader.Expect(end);
        return items;
    }

    private JinjaNode Dictionary(int line)
    {
        List<(JinjaNode Key, JinjaNode Value)> items = List("}", () =>
        {
            JinjaNode key = Read();
            reader.Expect(":");
            return (key, Read());
        });
        return new JinjaNode(line, items.SelectMany(i => new[] { i.Key, i.Value }), c =>
        {
            OrderedDictionary<string, object> values = [];
            foreach ((JinjaNode key, JinjaNode value) in items)
            {
                values[key.Of(c) as string ?? throw new JinjaException($"{JinjaOperators.Kind(key.Of(c))} as a key")] = value.Of(c);
            }

            return new JinjaDict(values);
        });
    }

    private JinjaNode Named(JinjaToken token)
    {
        string name = token.Text;
        switch (name)
        {
            case "true" or "True":
                return new JinjaNode(token.Line, true);
            case "false" or "False":
                return new JinjaNode(token.Line, false);
            case "none" or "None":
                return new JinjaNode(token.Line, JinjaNone.Value);
            case "loop":
                return Loop(token.Line);
            case "strftime_now" when !hasClock:
                throw new JinjaException("strftime_now, which needs a clock", token.Line);
            case var _ when JinjaFunctions.IsOther(name):
                throw new JinjaException($"the function '{name}'", token.Line);
            case var _ when JinjaFunctions.IsKnown(name):
                return reader.Now.IsSign("(") ? JinjaFunctions.Call(name, Arguments(), token.Line) : Mention(name, token.Line);
        }

        ScriptVariableGlobal variable = Scope.Find(name);
        return new JinjaNode(token.Line, [], c => c.GetValue(variable) ?? new JinjaUndefined(name));
    }

    private JinjaNode Loop(int line)
    {
        if (Scope.Turn is not { } turn || !reader.Skip("."))
        {
            throw new JinjaException("'loop' outside of a loop, or without an attribute", line);
        }

        string name = reader.Name();
        if (!JinjaTurn.Knows(name) || reader.Now.IsSign("("))
        {
            throw new JinjaException($"'loop.{name}'", line);
        }

        return new JinjaNode(line, [], c => ((JinjaTurn)c.GetValue(turn)!).Find(name));
    }

    // A function is a value in Jinja; a template may only ask whether there is one.
    private JinjaNode Mention(string name, int line)
    {
        bool asks = reader.SkipName("is");
        bool isOpposite = asks && reader.SkipName("not");
        return asks && reader.SkipName("defined") ? new JinjaNode(line, !isOpposite) : throw new JinjaException($"the function '{name}' without a call", line);
    }
}
