using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation.Tests;

/// <summary>The demo model and its text, loaded once.</summary>
public sealed class Demo : IDisposable
{
    /// <summary>Prompts of a fraction of a second.</summary>
    public static readonly EvalScale Tiny = new("tiny", 320, 4, [256, 320], 3, 256, 16);

    public Demo()
    {
        Model = DemoModel.Load();
        Text = EvalText.Create(Model.Tokenizer!, DemoModel.ReadDocument());
        Identity = new EvalIdentity(DemoModel.Directory, "text", "cpu", Tiny);
    }

    public LlamaModel Model { get; }

    public EvalText Text { get; }

    public EvalIdentity Identity { get; }

    public void Dispose() => Model.Dispose();

    public static EvalTask Task(string name) => EvalTask.All.Single(t => t.Name == name);
}

/// <summary>A folder that goes with the test.</summary>
public sealed class TempFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("kvcache-eval-").FullName;

    public string File(string name) => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
