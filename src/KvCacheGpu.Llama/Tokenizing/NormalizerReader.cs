using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads the normalization of text in tokenizer.json: NFC, Prepend and Replace, alone or in a Sequence.</summary>
internal static class NormalizerReader
{
    /// <summary>The function that normalizes a piece of text.</summary>
    public static Func<string, string> Read(JsonFile file)
    {
        Func<string, string>[] steps = [.. file.Sequence("normalizer", "normalizers").Select(Step)];
        return text => steps.Aggregate(text, (t, step) => step(t));
    }

    private static Func<string, string> Step(JsonFile step)
    {
        switch (step.Text("type"))
        {
            case "NFC":
                return ComposedText.Of;
            case "Prepend":
                string before = step.Text("prepend") ?? string.Empty;
                return text => text.Length == 0 ? text : before + text;
            case "Replace" when step.Find("pattern") is { ValueKind: JsonValueKind.Object } element && step.At(element).Text("String") is { Length: > 0 } old:
                string content = step.Text("content") ?? string.Empty;
                return text => text.Replace(old, content, StringComparison.Ordinal);
            case var other:
                LlamaFormatException.ThrowUnsupported(step.Name, "normalizer", "null, NFC, Prepend and Replace of a String", other ?? "one without type");
                return null!;
        }
    }
}
