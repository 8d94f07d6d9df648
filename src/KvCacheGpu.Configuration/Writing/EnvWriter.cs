using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>Writes a configuration as variables of a .env file.</summary>
internal static class EnvWriter
{
    public static string Write(KvConfiguration configuration)
    {
        StringBuilder text = new();
        text.Append($"# {Remarks.Head}\n");
        if (configuration.Preset is { } preset)
        {
            text.Append($"{EnvironmentNames.VariableOf(EnvironmentNames.Preset)}={preset}\n");
        }

        foreach (KvSetting setting in configuration.Settings)
        {
            KvConfigurationKey key = KvConfigurationKeys.Find(setting.Key)!;
            text.Append($"# {Remarks.Of(key)}\n{key.Variable}={(key.IsText && setting.Value is { } value ? EnvValue.Quoted(value) : setting.Value)}\n");
        }

        return text.ToString();
    }
}
