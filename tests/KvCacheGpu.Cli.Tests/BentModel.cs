using System.Text.Json.Nodes;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli.Tests;

/// <summary>A copy of the demo model in a folder of its own whose config.json is changed.</summary>
internal sealed class BentModel : IDisposable
{
    public BentModel(Action<JsonObject> bend, bool withTokenizer = true)
    {
        Path = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        foreach (string file in Directory.GetFiles(DemoModel.Directory))
        {
            string name = System.IO.Path.GetFileName(file);
            if (withTokenizer || name == "model.safetensors")
            {
                File.Copy(file, System.IO.Path.Combine(Path, name));
            }
        }

        JsonObject config = JsonNode.Parse(File.ReadAllText(System.IO.Path.Combine(DemoModel.Directory, "config.json")))!.AsObject();
        bend(config);
        File.WriteAllText(System.IO.Path.Combine(Path, "config.json"), config.ToJsonString());
    }

    public string Path { get; }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
