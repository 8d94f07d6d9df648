using System.Globalization;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Compares keys of dicts, and prints them as Python would.</summary>
internal static class PickleKeys
{
    private const int LongestTuple = 16;

    /// <summary>Compares keys by type and value.</summary>
    public static IEqualityComparer<PickleValue> Comparer { get; } = new ByValue();

    /// <summary>True if a value may be a key. Tuples must be flat, so that comparing two is never more work than reading them was.</summary>
    public static bool IsKey(PickleValue value) => IsAtom(value) || (value is TupleValue { Items.Length: <= LongestTuple } tuple && tuple.Items.All(IsAtom));

    /// <summary>A key as Python prints it, cut off if it is long.</summary>
    public static string Text(PickleValue key) => key switch
    {
        NoneValue => "None",
        BoolValue b => b.Value ? "True" : "False",
        IntegerValue i => i.Value.ToString(CultureInfo.InvariantCulture),
        FloatValue f => Float(f.Value),
        TextValue t => Quoted(t.Value),
        TupleValue { Items: [var only] } => $"({Text(only)},)",
        TupleValue t => $"({string.Join(", ", t.Items.Select(Text))})",
        _ => Describe(key),
    };

    /// <summary>The kind of a value, for errors.</summary>
    public static string Describe(PickleValue value) => value switch
    {
        NoneValue => "None",
        BoolValue => "a bool",
        IntegerValue i => i.Value.ToString(CultureInfo.InvariantCulture),
        FloatValue => "a float",
        TextValue t => Quoted(t.Value),
        BytesValue b => $"{b.Bytes.Length} bytes",
        GlobalValue g => g.Name,
        TupleValue t => $"a tuple of {t.Items.Length}",
        ListValue l => $"a list of {l.Items.Count}",
        DictValue d => $"a dict of {d.Items.Count}",
        TensorValue => "a tensor",
        StorageValue => "a storage",
        DtypeValue => "a dtype",
        _ => "another value",
    };

    private static bool IsAtom(PickleValue value) => value is NoneValue or BoolValue or IntegerValue or FloatValue or TextValue;

    private static string Float(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }

        string text = value.ToString("R", CultureInfo.InvariantCulture).Replace('E', 'e');
        return text.Contains('.', StringComparison.Ordinal) || text.Contains('e', StringComparison.Ordinal) ? text : text + ".0";
    }

    private static string Quoted(string text)
    {
        const int Longest = 512;
        StringBuilder quoted = new();
        char quote = text.Contains('\'', StringComparison.Ordinal) && !text.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        quoted.Append(quote);
        foreach (char c in text.Length > Longest ? text.AsSpan(0, Longest) : text)
        {
            _ = c switch
            {
                '\n' => quoted.Append("\\n"),
                '\r' => quoted.Append("\\r"),
                '\t' => quoted.Append("\\t"),
                '\\' => quoted.Append("\\\\"),
                _ when c == quote => quoted.Append('\\').Append(c),
                _ when char.IsControl(c) => quoted.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:x2}"),
                _ => quoted.Append(c),
            };
        }

        return quoted.Append(text.Length > Longest ? "..." : string.Empty).Append(quote).ToString();
    }

    private sealed class ByValue : IEqualityComparer<PickleValue>
    {
        public bool Equals(PickleValue? x, PickleValue? y) => ReferenceEquals(x, y) || (x, y) switch
        {
            (NoneValue, NoneValue) => true,
            (BoolValue a, BoolValue b) => a.Value == b.Value,
            (IntegerValue a, IntegerValue b) => a.Value == b.Value,
            (FloatValue a, FloatValue b) => a.Value.Equals(b.Value),
            (TextValue a, TextValue b) => a.Hash == b.Hash && a.Value == b.Value,
            (TupleValue a, TupleValue b) => a.Items.Length == b.Items.Length && a.Items.Zip(b.Items).All(pair => Equals(pair.First, pair.Second)),
            _ => false,
        };

        public int GetHashCode(PickleValue value)
        {
            // HashCode has a seed of its own in each process, so that a file cannot choose keys that collide.
            HashCode hash = default;
            foreach (PickleValue part in value is TupleValue tuple ? tuple.Items : [value])
            {
                hash.Add(part switch
                {
                    BoolValue b => b.Value ? 1 : 2,
                    IntegerValue i => HashCode.Combine((ulong)i.Value, (ulong)(i.Value >> 64)),
                    FloatValue f => HashCode.Combine(f.Value),
                    TextValue t => t.Hash,
                    _ => 0,
                });
            }

            return hash.ToHashCode();
        }
    }
}
