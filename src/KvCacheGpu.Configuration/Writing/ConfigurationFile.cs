namespace KvCacheGpu.Configuration;

/// <summary>Puts a configuration's file in its place: the new one or the old one is there at every moment, also after a power loss.</summary>
internal static class ConfigurationFile
{
    private const int ReadableByAll = 0x1A4; // 0644

    public static KvConfigurationFormat FormatOf(string path)
    {
        string name = Path.GetFileName(path);
        return Path.GetExtension(name).ToLowerInvariant() switch
        {
            ".json" => KvConfigurationFormat.Json,
            ".yaml" or ".yml" => KvConfigurationFormat.Yaml,
            _ when name.StartsWith(".env", StringComparison.Ordinal) || name.EndsWith(".env", StringComparison.Ordinal) => KvConfigurationFormat.DotEnv,
            _ => throw new KvConfigurationException(path, "a name ending in .json, .yaml or .yml, or a .env file", "another"),
        };
    }

    /// <summary>Writes; a file that is there keeps its permissions. A value that UTF-8 cannot say is an <see cref="ArgumentException"/>: it would be read as another.</summary>
    public static void Write(IStoreFiles files, string path, string text)
    {
        string whole = Path.GetFullPath(path), name = Path.GetFileName(whole);
        RootedFiles folder = new(files, Path.GetDirectoryName(whole)!);
        folder.Replace(name, new FileImage(KvText.Strict.GetBytes(text), folder.Read(name, TextFile.MostBytes)?.Mode ?? ReadableByAll));
    }
}
