using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Checks that tokenizer.json turns tokens back into text in the way that is implemented here.</summary>
internal static class DecoderReader
{
    /// <summary>True if a text loses its first space.</summary>
    public static bool DropsFirstSpace(JsonFile file, bool isByteLevel)
    {
        bool drops = false;
        foreach (JsonFile part in file.Sequence("decoder", "decoders"))
        {
            string type = part.Text("type") ?? "one without type";
            bool isKnown = isByteLevel
                ? type is "ByteLevel" or "Fuse"
                : type switch
                {
                    "ByteFallback" or "Fuse" or "Metaspace" => true,
                    "Replace" => Pattern(part) == "\u2581" && part.Text("content") == " ",
                    "Strip" => part.Text("content") == " " && part.Int("start", 0, 1) == 1 && part.Int("stop", 0, 1) == 0,
                    _ => false,
                };
            if (!isKnown)
            {
                LlamaFormatException.ThrowUnsupported(
                    file.Name, "decoder", isByteLevel ? "ByteLevel" : "Replace of \u2581, ByteFallback, Fuse, Strip of one space, Metaspace", type);
            }

            drops |= type == "Strip" || (type == "Metaspace" && part.Text("prepend_scheme") != "never" && part.Bool("add_prefix_space", true));
        }

        return drops;
    }

    private static string? Pattern(JsonFile part) =>
        part.Find("pattern") is { ValueKind: JsonValueKind.Object } pattern ? part.At(pattern).Text("String") : null;
}
