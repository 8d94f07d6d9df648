namespace KvCacheGpu.Configuration;

/// <summary>Reads a key's value as it stands in a file or variable.</summary>
internal static class KeyReading
{
    /// <summary>The value as files write it; the same value always becomes the same text.</summary>
    /// <exception cref="KvConfigurationException">E003: the key does not take it.</exception>
    public static string? Canonical(this KvConfigurationKey key, NodeKind kind, string? text, string where) =>
        TryRead(key, kind, text, out string? value) ? value : throw new KvConfigurationException(where, key.Allowed, kind switch
        {
            NodeKind.Mapping => "a mapping",
            NodeKind.Sequence => "a sequence",
            NodeKind.Null => "nothing",
            NodeKind.Text => $"the text \"{text}\"",
            _ => $"{text}",
        });

    private static bool TryRead(KvConfigurationKey key, NodeKind kind, string? text, out string? value)
    {
        value = null;
        if (kind == NodeKind.Null || (kind == NodeKind.Variable && text is "" && key.TakesNull))
        {
            return key.TakesNull;
        }

        // What stands in quotes is a text; a number of JSON is not.
        bool fits = key.IsText ? kind is NodeKind.Text or NodeKind.Plain or NodeKind.Variable : kind is NodeKind.Literal or NodeKind.Plain or NodeKind.Variable;
        return fits && !(kind == NodeKind.Plain && !key.IsText && BeginsWithZero(text!)) && key.TryParse(text, kind == NodeKind.Variable, out value);
    }

    // 010 is ten to YAML 1.2 and eight to YAML 1.1: two readers would take it for two numbers.
    private static bool BeginsWithZero(string text) => text.TrimStart('+', '-') is ['0', >= '0' and <= '9', ..];
}
