using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>The small trained model that ships with the program, and the text held out from its training.</summary>
public static class DemoModel
{
    /// <summary>The name of the file with the text held out from a model's training, beside the model.</summary>
    public const string DocumentName = "document.txt";

    private const string FolderName = "demo-model";

    /// <summary>The bundled directory, beside the program.</summary>
    public static string Directory => Path.Combine(AppContext.BaseDirectory, FolderName);

    /// <summary>The held-out text: the last 3 % of the King James Bible, which is in the public domain.</summary>
    public static string DocumentPath => Path.Combine(Directory, DocumentName);

    /// <summary>Loads the model.</summary>
    /// <exception cref="LlamaFormatException">The directory is not beside the program, or it is damaged.</exception>
    public static LlamaModel Load() => LlamaModel.Load(Directory);

    /// <summary>Reads the held-out text.</summary>
    /// <exception cref="LlamaFormatException">The text is not beside the program.</exception>
    public static string ReadDocument()
    {
        if (!File.Exists(DocumentPath))
        {
            LlamaFormatException.ThrowMissing(DocumentPath, "the demo model's held-out text");
        }

        return File.ReadAllText(DocumentPath);
    }
}
