using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>A folder of a test's own, gone after it.</summary>
internal sealed class Folder : IDisposable
{
    public Folder() => Root = Directory.CreateTempSubdirectory("kvcache-sources-").FullName;

    public string Root { get; }

    public string this[string name] => Path.Combine(Root, name);

    public string Write(string name, string text) => Write(name, Encoding.UTF8.GetBytes(text));

    public string Write(string name, byte[] bytes)
    {
        File.WriteAllBytes(this[name], bytes);
        return this[name];
    }

    public string Hash(string name) => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(this[name])));

    /// <summary>Loads a file alone: no .env, no environment.</summary>
    public KvConfiguration Load(string name) => KvConfiguration.Load(new KvConfigurationSources { File = this[name], Environment = NoVariables });

    public static IReadOnlyDictionary<string, string> NoVariables { get; } = new Dictionary<string, string>();

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
