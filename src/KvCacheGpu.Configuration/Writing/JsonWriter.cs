using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>Writes a configuration as JSON with remarks.</summary>
internal static class JsonWriter
{
    public static string Write(KvConfiguration configuration)
    {
        StringBuilder text = new();
        text.Append($"// {Remarks.Head}\n{{\n");
        if (configuration.Preset is { } preset)
        {
            text.Append($"  \"{EnvironmentNames.Preset}\": \"{preset}\",\n");
        }

        text.Append($"  \"{KvConfiguration.Section}\": {{\n");
        IEnumerable<string> settings = configuration.Settings.Select(setting =>
        {
            KvConfigurationKey key = KvConfigurationKeys.Find(setting.Key)!;
            string value = setting.Value is null ? "null" : key.IsText ? Remarks.Quoted(setting.Value) : setting.Value;
            return $"    // {Remarks.Of(key)}\n    \"{key.Name}\": {value}";
        });
        text.AppendJoin(",\n", settings.Concat(Members(configuration.Unknown.InSection, "    "))).Append("\n  }");
        foreach (string member in Members(configuration.Unknown.Beside, "  "))
        {
            text.Append(",\n").Append(member);
        }

        return text.Append("\n}\n").ToString();
    }

    /// <summary>A value as JSON; what stands plain in YAML by <paramref name="plain"/>.</summary>
    public static string Of(ConfigNode node, Func<string, string> plain) => node.Kind switch
    {
        NodeKind.Null => "null",
        NodeKind.Literal => node.Text!,
        NodeKind.Plain => plain(node.Text!),
        NodeKind.Mapping => $"{{{string.Join(", ", node.Members.Select(m => $"{Remarks.Quoted(m.Name)}: {Of(m.Node, plain)}"))}}}",
        NodeKind.Sequence => $"[{string.Join(", ", node.Members.Select(m => Of(m.Node, plain)))}]",
        _ => Remarks.Quoted(node.Text!),
    };

    private static IEnumerable<string> Members(IReadOnlyList<ConfigMember> members, string indent) => members.Select((member, i) =>
        $"{(i == 0 ? $"{indent}// {Remarks.Kept}\n" : string.Empty)}{indent}{Remarks.Quoted(member.Name)}: {Of(member.Node, Remarks.Quoted)}");
}
