using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>Writes a configuration as YAML.</summary>
internal static class YamlWriter
{
    public static string Write(KvConfiguration configuration)
    {
        StringBuilder text = new();
        text.Append($"# {Remarks.Head}\n");
        if (configuration.Preset is { } preset)
        {
            text.Append($"{EnvironmentNames.Preset}: {preset}\n");
        }

        text.Append($"{KvConfiguration.Section}:\n");
        foreach (KvSetting setting in configuration.Settings)
        {
            KvConfigurationKey key = KvConfigurationKeys.Find(setting.Key)!;
            string value = setting.Value is null ? "null" : key.IsText ? Remarks.Quoted(setting.Value) : setting.Value;
            text.Append($"  # {Remarks.Of(key)}\n  {key.Name}: {value}\n");
        }

        Append(text, configuration.Unknown.InSection, "  ");
        Append(text, configuration.Unknown.Beside, string.Empty);
        return text.ToString();
    }

    private static void Append(StringBuilder text, IReadOnlyList<ConfigMember> members, string indent)
    {
        text.Append(members.Count > 0 ? $"{indent}# {Remarks.Kept}\n" : string.Empty);
        foreach (ConfigMember member in members)
        {
            // Braces, brackets and quotes of JSON are YAML as well; a plain scalar stays plain.
            text.Append($"{indent}{Remarks.Quoted(member.Name)}: {JsonWriter.Of(member.Node, plain => plain)}\n");
        }
    }
}
