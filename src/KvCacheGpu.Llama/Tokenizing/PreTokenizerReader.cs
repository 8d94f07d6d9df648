using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads the steps by which tokenizer.json cuts text into words: Split, Digits, ByteLevel and Metaspace, alone or in a Sequence.</summary>
internal static class PreTokenizerReader
{
    /// <summary>GPT-2's pattern, by which ByteLevel cuts unless it is told not to.</summary>
    public const string Gpt2 = """'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""";

    /// <summary>Reads the steps in order; IsByteLevel is true if they end in bytes.</summary>
    public static (List<WordStep> Steps, bool IsByteLevel) Read(JsonFile file)
    {
        List<WordStep> steps = [];
        foreach (JsonFile part in file.Sequence("pre_tokenizer", "pretokenizers"))
        {
            // After ByteLevel there are no characters any more, and Metaspace can only tell the start of a text if no step has cut it before.
            bool isLast = steps.Count > 0 && steps[^1] is ByteLevelStep or SpaceStep;
            bool isSpaceLater = part.Text("type") == "Metaspace" && steps.Count > 0;
            if (isLast || isSpaceLater)
            {
                LlamaFormatException.ThrowUnsupported(file.Name, "pre_tokenizer", "ByteLevel as the last step, or Metaspace alone", part.Text("type") ?? "another");
            }

            steps.Add(Step(part));
        }

        return (steps, steps.Count > 0 && steps[^1] is ByteLevelStep);
    }

    private static WordStep Step(JsonFile part)
    {
        switch (part.Text("type"))
        {
            case "ByteLevel":
                return new ByteLevelStep(part.Bool("add_prefix_space", true), part.Bool("use_regex", true) ? WordPattern.Read(part.Name, Gpt2) : null);
            case "Split":
                return ReadSplit(part);
            case "Digits":
                return new SplitStep(WordPattern.Read(part.Name, part.Bool("individual_digits", false) ? @"\p{N}" : @"\p{N}+"));
            case "Metaspace":
                return ReadSpaces(part);
            case var other:
                LlamaFormatException.ThrowUnsupported(part.Name, "pre_tokenizer", "Split, Digits, ByteLevel and Metaspace", other ?? "one without type");
                return null!;
        }
    }

    private static SplitStep ReadSplit(JsonFile split)
    {
        string behavior = split.Text("behavior") ?? "Isolated";
        bool invert = split.Bool("invert", false);
        if (behavior != "Isolated" && !(behavior == "Removed" && invert))
        {
            LlamaFormatException.ThrowUnsupported(split.Name, "pre_tokenizer", "behavior Isolated", invert ? behavior + " inverted" : behavior);
        }

        if (split.Find("pattern") is { ValueKind: JsonValueKind.Object } element)
        {
            JsonFile pattern = split.At(element);
            if (pattern.Text("Regex") is { } expression)
            {
                return new SplitStep(WordPattern.Read(split.Name, expression), behavior == "Removed");
            }

            if (pattern.Text("String") is { Length: > 0 } text)
            {
                return new SplitStep(WordPattern.Literal(split.Name, text), behavior == "Removed");
            }
        }

        LlamaFormatException.ThrowCorrupt(split.Name, "pre_tokenizer", "a pattern with Regex or String", "none");
        return null!;
    }

    private static SpaceStep ReadSpaces(JsonFile part)
    {
        // Files from before 2024 only have add_prefix_space.
        string scheme = part.Text("prepend_scheme") ?? (part.Bool("add_prefix_space", true) ? "always" : "never");
        part.Support(scheme is "always" or "first" or "never", "prepend_scheme", "always, first or never");
        string space = part.Text("replacement") ?? "\u2581";
        part.Support(space.Length == 1, "replacement", "one character");
        return new SpaceStep(space[0], scheme != "never", scheme == "first", part.Bool("split", true));
    }
}
