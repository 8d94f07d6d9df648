using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Finds the token that starts every text.</summary>
internal static class StartReader
{
    /// <summary>The token that starts texts: by tokenizer_config.json, or by tokenizer.json, or else by the architecture.</summary>
    public static int? Of(string directory, LlamaConfig config, TokenizerParts parts)
    {
        string path = Path.Combine(directory, "tokenizer_config.json");
        if (File.Exists(path) && JsonFile.Open(path) is var file && file.Find("add_bos_token") is not null)
        {
            return file.Bool("add_bos_token", false) ? config.BosTokenId : null;
        }

        return parts.KnowsStart ? parts.Start : config.Architecture.StartsTexts ? config.BosTokenId : null;
    }

    /// <summary>Reads the token that the post_processor of tokenizer.json puts before a text; unknown if it has no post_processor.</summary>
    public static (bool IsKnown, int? Id) Read(JsonFile file, int size)
    {
        (bool IsKnown, int? Id) start = default;
        foreach (JsonFile part in file.Sequence("post_processor", "processors"))
        {
            switch (part.Text("type"))
            {
                case "ByteLevel":
                    start.IsKnown = true;
                    break;
                case "TemplateProcessing":
                    start = (true, Template(part, size));
                    break;
                case var other:
                    LlamaFormatException.ThrowUnsupported(file.Name, "post_processor", "ByteLevel and TemplateProcessing", other ?? "one without type");
                    break;
            }
        }

        return start;
    }

    // Either [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}] or the second part alone.
    private static int? Template(JsonFile part, int size)
    {
        JsonFile[] single = part.Find("single") is { ValueKind: JsonValueKind.Array } list && list.EnumerateArray().All(e => e.ValueKind == JsonValueKind.Object)
            ? [.. list.EnumerateArray().Select(part.At)] : [];
        bool isText = single.Length is 1 or 2 && single[^1].Find("Sequence") is not null;
        string? token = single.Length == 2 && single[0].Find("SpecialToken") is { ValueKind: JsonValueKind.Object } first ? part.At(first).Text("id") : null;
        if (!isText || (single.Length == 2 && token is null))
        {
            LlamaFormatException.ThrowUnsupported(
                part.Name, "post_processor", "a template of at most one token before the text", part.Find("single")?.GetRawText() ?? "none");
        }

        if (token is null)
        {
            return null;
        }

        if (part.Find("special_tokens") is { ValueKind: JsonValueKind.Object } tokens && part.At(tokens).Find(token) is { ValueKind: JsonValueKind.Object } named
            && part.At(named).Find("ids") is { ValueKind: JsonValueKind.Array } ids && ids.GetArrayLength() == 1
            && ids[0].ValueKind == JsonValueKind.Number && ids[0].TryGetInt32(out int id) && (uint)id < (uint)size)
        {
            return id;
        }

        LlamaFormatException.ThrowCorrupt(part.Name, "post_processor", $"one id of 0..{size - 1} for {token}", "something else");
        return null;
    }
}
