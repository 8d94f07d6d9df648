namespace KvCacheGpu.Configuration;

/// <summary>
/// A configuration as text, edited where it stands: comments, order, indentation, line endings and foreign keys are what they were. Keys are those of
/// version 2 ("max_tokens"), whatever the file calls them. An edit gives a new text.
/// </summary>
internal interface IConfigText
{
    /// <summary>Reads a JSON or YAML file; its name tells which of the two it is.</summary>
    /// <exception cref="KvConfigurationException">No UTF-8, or no JSON or YAML, as its name says (E003).</exception>
    static IConfigText Parse(string path, byte[] bytes) => Path.GetExtension(path).Equals(".json", StringComparison.OrdinalIgnoreCase)
        ? JsonText.Parse(path, TextFile.Decode(path, bytes))
        : YamlText.Parse(path, TextFile.Decode(path, bytes));

    string Text { get; }

    /// <summary>True for variables, false for a file of keys.</summary>
    bool IsVariables { get; }

    /// <summary>True if it configures the cache in the way of version 2.</summary>
    bool HasSection { get; }

    /// <summary>What the text says its schema is, if it does.</summary>
    string? DeclaredVersion { get; }

    /// <summary>The value written for a key of version 2, without quotes; null where none is.</summary>
    string? Find(string key);

    /// <summary>The value written for a key of version 1: "kv_cache_size", "kv_cache_strategy".</summary>
    OldSetting? FindOld(string key);

    /// <summary>Puts settings in the place of version 1's keys.</summary>
    IConfigText ReplaceOld(IReadOnlyList<Setting> settings);

    /// <summary>Adds settings after those that are there.</summary>
    IConfigText Add(IReadOnlyList<Setting> settings);
}

/// <summary>A key of version 2 with its value, as a word.</summary>
internal readonly record struct Setting(string Key, string Value, bool IsText = false);

/// <summary>A value of version 1 and the line that it stands on, from 1.</summary>
internal sealed record OldSetting(string Value, int Line);
