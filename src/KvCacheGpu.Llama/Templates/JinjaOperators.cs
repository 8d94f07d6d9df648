using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>What operators do with values in Python. What Python refuses, and what is not supported, is a <see cref="JinjaException"/>.</summary>
internal static class JinjaOperators
{
    private const int MostNested = 64;
    private const int ListSteps = 16; // A list takes longer than a letter.

    /// <summary>True as Python's <c>bool</c> has it.</summary>
    public static bool IsTrue(object value) => value switch
    {
        bool truth => truth,
        long number => number != 0,
        string text => text.Length > 0,
        JinjaList list => list.Items.Count > 0,
        JinjaDict dict => dict.Items.Count > 0,
        JinjaNone or JinjaUndefined => false,
        _ => true,
    };

    /// <summary>The kind of a value, for errors.</summary>
    public static string Kind(object value) => value switch
    {
        string => "a string",
        bool => "a truth value",
        long => "a number",
        JinjaNone => "none",
        JinjaUndefined undefined => $"'{undefined.Name}', which is undefined",
        JinjaList => "a list",
        JinjaDict => "a dictionary",
        JinjaNamespace => "a namespace",
        _ => "a sequence",
    };

    /// <summary>As <c>str</c> writes it.</summary>
    public static string Text(object value) => value switch
    {
        string text => text,
        bool truth => truth ? "True" : "False",
        long number => number.ToString(CultureInfo.InvariantCulture),
        JinjaNone => "None",
        JinjaUndefined => string.Empty,
        _ => throw new JinjaException($"text of {Kind(value)}"),
    };

    /// <summary>A number; truth values are 0 and 1.</summary>
    public static long? Number(object value) => value switch { long number => number, bool truth => truth ? 1 : 0, _ => null };

    /// <summary>As <c>==</c> has it.</summary>
    public static bool AreEqual(JinjaContext context, object left, object right, int nested = 0)
    {
        context.Spend(1);
        if (nested > MostNested)
        {
            throw new JinjaException("lists nested too deep to compare");
        }

        switch (left, right)
        {
            case (string a, string b):
                context.Spend(a.Length == b.Length ? a.Length : 0);
                return a == b;
            case (JinjaNone, JinjaNone) or (JinjaUndefined, JinjaUndefined):
                return true;
            case (JinjaList a, JinjaList b):
                context.Spend(ListSteps);
                return a.IsTuple == b.IsTuple && a.Items.Count == b.Items.Count && !a.Items.Where((item, i) => !AreEqual(context, item, b.Items[i], nested + 1)).Any();
            case (JinjaDict a, JinjaDict b):
                return a.Items.Count == b.Items.Count
                    && a.Items.All(item => b.Items.TryGetValue(item.Key, out object? other) && AreEqual(context, item.Value, other, nested + 1));
            case (JinjaSequence, _) or (_, JinjaSequence):
                throw new JinjaException("a sequence that is compared");
            default:
                return Number(left) is { } x && Number(right) is { } y ? x == y : ReferenceEquals(left, right);
        }
    }

    /// <summary>Compares by an operator of Jinja.</summary>
    public static bool Compare(JinjaContext context, string sign, object left, object right)
    {
        switch (sign)
        {
            case "==":
                return AreEqual(context, left, right);
            case "!=":
                return !AreEqual(context, left, right);
            case "in":
                return IsIn(context, left, right);
            case "not in":
                return !IsIn(context, left, right);
        }

        int order;
        if (left is string a && right is string b)
        {
            context.Spend(Math.Min(a.Length, b.Length));
            order = PythonText.Compare(a, b);
        }
        else if (Number(left) is { } x && Number(right) is { } y)
        {
            order = x.CompareTo(y);
        }
        else
        {
            throw new JinjaException($"'{sign}' of {Kind(left)} and {Kind(right)}");
        }

        return sign switch { "<" => order < 0, "<=" => order <= 0, ">" => order > 0, _ => order >= 0 };
    }

    /// <summary>Combines by an arithmetic operator of Jinja.</summary>
    public static object Combine(JinjaContext context, string sign, object left, object right)
    {
        try
        {
            switch (sign, left, right)
            {
                case ("+", string a, string b):
                    return context.Text(a, b);
                case ("+", JinjaList a, JinjaList b) when a.IsTuple == b.IsTuple:
                    context.Spend(a.Items.Count + b.Items.Count);
                    return new JinjaList([.. a.Items, .. b.Items], a.IsTuple);
                case ("~", _, _):
                    return context.Text(Text(left), Text(right));
                case ("*", string text, _) when Number(right) is { } times:
                    return Repeat(context, text, times);
                case ("*", _, string text) when Number(left) is { } times:
                    return Repeat(context, text, times);
            }

            if (Number(left) is { } x && Number(right) is { } y)
            {
                return checked(sign switch
                {
                    "+" => x + y,
                    "-" => x - y,
                    "*" => x * y,
                    "//" => Floor(x, y),
                    _ => x - (Floor(x, y) * y),
                });
            }
        }
        catch (OverflowException)
        {
            throw new JinjaException("a number beyond 64 bits");
        }

        throw new JinjaException($"'{sign}' of {Kind(left)} and {Kind(right)}");
    }

    /// <summary>The number with the other sign.</summary>
    public static object Negate(object value) =>
        Number(value) is { } number && number != long.MinValue ? -number : throw new JinjaException($"'-' of {Kind(value)}");

    /// <summary>The items over which a loop goes.</summary>
    public static IReadOnlyList<object> Items(JinjaContext context, object value)
    {
        IReadOnlyList<object> items = value switch
        {
            JinjaList list => list.Items,
            JinjaSequence sequence => sequence.Take(),
            JinjaDict dict => [.. dict.Items.Keys],
            JinjaUndefined => [],
            string text => Letters(context, text),
            _ => throw new JinjaException($"a loop over {Kind(value)}"),
        };
        context.Spend(items.Count);
        return items;
    }

    /// <summary>The part <c>[from:to:step]</c>; each may be <see cref="JinjaNone"/>.</summary>
    public static object Slice(JinjaContext context, object value, object from, object to, object step)
    {
        if (value is not (JinjaList or string) || !(IsBound(from) && IsBound(to) && IsBound(step)))
        {
            throw new JinjaException($"a part of {Kind(value)} from {Kind(from)} to {Kind(to)} by {Kind(step)}");
        }

        IReadOnlyList<object> items = value is string text ? Letters(context, text) : ((JinjaList)value).Items;
        long count = items.Count;
        long stride = Number(step) ?? 1;
        if (stride == 0)
        {
            throw new JinjaException("a part with a step of 0");
        }

        long low = stride < 0 ? -1 : 0;
        long high = stride < 0 ? count - 1 : count;
        long first = Number(from) is { } f ? Bound(f) : stride < 0 ? high : low;
        long last = Number(to) is { } t ? Bound(t) : stride < 0 ? low : high;
        stride = Math.Clamp(stride, -count - 1, count + 1);
        List<object> part = [];
        for (long i = first; stride < 0 ? i > last : i < last; i += stride)
        {
            part.Add(items[(int)i]);
        }

        context.Spend(part.Count);
        return value is string ? string.Concat(part) : new JinjaList(part, ((JinjaList)value).IsTuple);

        static bool IsBound(object bound) => bound is JinjaNone or long or bool;

        long Bound(long bound) => Math.Clamp(bound < 0 ? (bound < -count ? low : bound + count) : bound, low, high);
    }

    private static List<object> Letters(JinjaContext context, string text)
    {
        context.Spend(text.Length);
        return PythonText.Letters(text);
    }

    private static bool IsIn(JinjaContext context, object item, object container)
    {
        switch (container)
        {
            case string text when item is string part:
                context.Spend(text.Length * (1L + (part.Length / 64)));
                return text.Contains(part, StringComparison.Ordinal);
            case JinjaDict dict when item is string or bool or long or JinjaNone or JinjaUndefined:
                return item is string key && dict.Items.ContainsKey(key);
            case JinjaList or JinjaSequence or JinjaUndefined:
                return Items(context, container).Any(other => ReferenceEquals(item, other) || AreEqual(context, item, other));
            default:
                throw new JinjaException($"{Kind(item)} in {Kind(container)}");
        }
    }

    private static string Repeat(JinjaContext context, string text, long times)
    {
        long length = times <= 0 ? 0 : checked(text.Length * times);
        context.Spend(length);
        context.Check(length);
        return length == 0 ? string.Empty : new StringBuilder().Insert(0, text, (int)times).ToString();
    }

    private static long Floor(long left, long right)
    {
        if (right == 0)
        {
            throw new JinjaException("a division by 0");
        }

        long quotient = checked(left / right);
        return left % right != 0 && left < 0 != right < 0 ? quotient - 1 : quotient;
    }
}
