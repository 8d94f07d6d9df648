using System.Text.Json;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Llama;

/// <summary>Reads how tokenizer.json cuts text into words: Split, Digits and ByteLevel, alone or in a Sequence.</summary>
internal static class PreTokenizerReader
{
    // GPT-2's: what ByteLevel cuts by unless it is told not to.
    private const string ByteLevelSplit = """'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""";

    /// <summary>The patterns in order, and whether a text gets a space before it.</summary>
    public static (List<Regex> Splits, bool PrefixSpace) Read(JsonFile file)
    {
        List<Regex> splits = [];
        bool prefixSpace = false;
        bool byteLevel = false;
        foreach (JsonFile part in Parts(file))
        {
            switch (part.Text("type"))
            {
                case "ByteLevel":
                    byteLevel = true;
                    prefixSpace |= part.Bool("add_prefix_space", true);
                    if (part.Bool("use_regex", true))
                    {
                        splits.Add(TokenizerFiles.Pattern(file.Name, ByteLevelSplit));
                    }

                    break;
                case "Split":
                    splits.Add(TokenizerFiles.Pattern(file.Name, ReadSplit(part)));
                    break;
                case "Digits":
                    splits.Add(TokenizerFiles.Pattern(file.Name, part.Bool("individual_digits", false) ? @"\p{Nd}" : @"\p{Nd}+"));
                    break;
                case var other:
                    LlamaFormatException.ThrowUnsupported(file.Name, "pre_tokenizer", "Split, Digits and ByteLevel", other ?? "one without type");
                    break;
            }
        }

        if (!byteLevel)
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "pre_tokenizer", "byte-level BPE", "one without ByteLevel");
        }

        return (splits, prefixSpace);
    }

    private static IEnumerable<JsonFile> Parts(JsonFile file)
    {
        if (file.Find("pre_tokenizer") is not { ValueKind: JsonValueKind.Object } element)
        {
            return [];
        }

        JsonFile root = file.At(element);
        if (root.Text("type") != "Sequence")
        {
            return [root];
        }

        if (root.Find("pretokenizers") is not { ValueKind: JsonValueKind.Array } list
            || list.EnumerateArray().Any(p => p.ValueKind != JsonValueKind.Object))
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "pre_tokenizer", "an array of pretokenizers", "something else");
            return [];
        }

        return list.EnumerateArray().Select(file.At);
    }

    private static string ReadSplit(JsonFile split)
    {
        string behavior = split.Text("behavior") ?? "Isolated";
        bool invert = split.Bool("invert", false);

        // With a pattern that matches words, "remove what does not match" and "isolate what matches" differ only where something does not.
        if (behavior != "Isolated" && !(behavior == "Removed" && invert))
        {
            LlamaFormatException.ThrowUnsupported(split.Name, "pre_tokenizer", "behavior Isolated", invert ? behavior + " inverted" : behavior);
        }

        if (split.Find("pattern") is { ValueKind: JsonValueKind.Object } element)
        {
            JsonFile pattern = split.At(element);
            if (pattern.Text("Regex") is { } expression)
            {
                return expression;
            }

            if (pattern.Text("String") is { } text)
            {
                return Regex.Escape(text);
            }
        }

        LlamaFormatException.ThrowCorrupt(split.Name, "pre_tokenizer", "a pattern with Regex or String", "none");
        return string.Empty;
    }
}
