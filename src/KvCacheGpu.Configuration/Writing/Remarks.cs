namespace KvCacheGpu.Configuration;

/// <summary>What every written file says, and how it quotes.</summary>
internal static class Remarks
{
    public const string Head = "Configuration of KvCacheGpu. Code wins over the environment, that over .env, that over this file, that over the preset.";
    public const string Kept = "Not keys of this version; kept as they were found.";

    /// <summary>A key's meaning, what it takes, and its default.</summary>
    public static string Of(KvConfigurationKey key) => $"{key.Meaning}: {key.Allowed}. Default: {key.Default ?? "nothing"}.";

    /// <summary>A text in double quotes as JSON and YAML both read it.</summary>
    public static string Quoted(string text) =>
        $"\"{string.Concat(text.Select(c => c is '"' or '\\' ? $"\\{c}" : IsPlain(c) ? $"{c}" : $"\\u{(int)c:x4}"))}\"";

    // Line and paragraph separators end a line in YAML; a byte order mark inside a text would be lost.
    private static bool IsPlain(char c) => !char.IsControl(c) && c is not ('\u2028' or '\u2029' or '\uFEFF' or '\uFFFE' or '\uFFFF');
}
