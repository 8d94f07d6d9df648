using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace KvCacheGpu.Llama;

/// <summary>The chat template of a model directory with the tokens that it may name: chat_template.jinja, tokenizer_config.json, special_tokens_map.json.</summary>
/// <param name="Name">The file and key of the template, for errors.</param>
/// <param name="Source">The template.</param>
/// <param name="Tokens">Texts of special tokens by name (<c>bos_token</c>); one that the model does not have is absent.</param>
/// <param name="Unknown">Special tokens whose texts are nowhere in the directory although the tokenizer may have them.</param>
internal sealed record ChatTemplateFile(string Name, string Source, IReadOnlyDictionary<string, string> Tokens, IReadOnlyCollection<string> Unknown)
{
    /// <summary>The names under which templates see special tokens.</summary>
    public static readonly string[] TokenNames = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

    private const string Config = "tokenizer_config.json";
    private const string Own = "chat_template.jinja";

    /// <summary>Reads a directory. As in transformers, a file of its own goes before tokenizer_config.json.</summary>
    /// <returns>The template; null if there is none.</returns>
    /// <exception cref="LlamaFormatException">A file is malformed (E004), or has several templates and none named "default" (E009).</exception>
    public static ChatTemplateFile? Read(string directory)
    {
        string path = Path.Combine(directory, Config);
        JsonFile? config = File.Exists(path) ? JsonFile.Open(path) : null;
        string own = Path.Combine(directory, Own);
        string name = File.Exists(own) ? Own : $"{Config}: chat_template";
        string? source = File.Exists(own) ? Text(own) : config is { } file && file.Find("chat_template") is { } value ? Default(file, value) : null;
        if (source is null)
        {
            return null;
        }

        string map = Path.Combine(directory, "special_tokens_map.json");
        JsonFile?[] files = [config, File.Exists(map) ? JsonFile.Open(map) : null];
        Dictionary<string, string> tokens = new(StringComparer.Ordinal);
        HashSet<string> unknown = [];
        // A class of tokenizer other than the plain one has defaults of its own for what no file names.
        bool isPlain = config?.Text("tokenizer_class") is null or "PreTrainedTokenizer" or "PreTrainedTokenizerFast";
        foreach (string token in TokenNames)
        {
            if (files.FirstOrDefault(f => f?.Find(token) is not null) is { } holder)
            {
                tokens[token] = Token(holder, token);
            }
            else if (!isPlain && !files.Any(f => f?.IsNull(token) == true))
            {
                unknown.Add(token);
            }
        }

        return new ChatTemplateFile(name, source, tokens, unknown);
    }

    private static string Text(string path)
    {
        byte[] bytes = ModelFile.ReadAll(path);
        if (!Utf8.IsValid(bytes))
        {
            LlamaFormatException.ThrowCorrupt(Own, "text", "UTF-8", "other bytes");
        }

        return Encoding.UTF8.GetString(bytes);
    }

    // One template, or a list of objects with "name" and "template".
    private static string Default(JsonFile file, JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.String)
        {
            return value.GetString()!;
        }

        List<string> names = [];
        foreach (JsonElement element in value.ValueKind == JsonValueKind.Array ? value.EnumerateArray() : default)
        {
            if (element.ValueKind != JsonValueKind.Object)
            {
                LlamaFormatException.ThrowCorrupt(file.Name, "chat_template", "objects with name and template", element.ValueKind.ToString());
            }

            JsonFile named = file.At(element);
            names.Add(named.Text("name") ?? "no name");
            if (names[^1] == "default" && named.Text("template") is { } template)
            {
                return template;
            }
        }

        if (value.ValueKind != JsonValueKind.Array)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "chat_template", "a string or a list", value.ValueKind.ToString());
        }

        LlamaFormatException.ThrowUnsupported(file.Name, "chat_template", "one template or one that is named default", $"the names {string.Join(", ", names)}");
        return string.Empty;
    }

    // "<s>", or an object whose content it is.
    private static string Token(JsonFile file, string name)
    {
        JsonElement value = file.Find(name)!.Value;
        string? text = value.ValueKind == JsonValueKind.Object ? file.At(value).Text("content") : file.Text(name);
        if (text is null)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, name, "a string or an object with content", value.GetRawText());
        }

        return text!;
    }
}
