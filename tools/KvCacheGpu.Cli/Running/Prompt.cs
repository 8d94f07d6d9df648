using System.Globalization;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>The text or token ids that a run continues; without either, only the token that starts every text.</summary>
internal sealed class Prompt
{
    /// <summary>The most prompts at once: each takes a token of a step, and a step has this many.</summary>
    public const int Most = 512;

    private readonly string? _text;
    private readonly int[]? _ids;

    private Prompt(string? text, int[]? ids) => (_text, _ids) = (text, ids);

    /// <summary>The text; null if the prompt is token ids or nothing.</summary>
    public string? Text => _text;

    /// <summary>Makes prompts of texts, a file or ids; one empty prompt if none of them is given.</summary>
    /// <param name="texts">Texts, any number.</param>
    /// <param name="file">A file with a text, or null.</param>
    /// <param name="ids">Token ids, or null.</param>
    /// <exception cref="UsageException">There are several kinds, too many prompts, or an empty one; a file cannot be read; or ids are not numbers.</exception>
    public static Prompt[] Choose(string[] texts, string? file, string? ids)
    {
        string[] given = [.. new (string Name, bool IsGiven)[] { ("--prompt", texts.Length > 0), ("--prompt-file", file is not null), ("--prompt-tokens", ids is not null) }
            .Where(o => o.IsGiven).Select(o => o.Name)];
        if (given.Length > 1)
        {
            throw new UsageException("prompt", "one of --prompt, --prompt-file and --prompt-tokens", string.Join(" and ", given));
        }

        if (texts.Length > Most)
        {
            throw new UsageException("--prompt", $"at most {Most} at once", $"{texts.Length}");
        }

        if (ids is not null)
        {
            return [new Prompt(null, ReadIds(ids))];
        }

        texts = file is null ? texts : [TextFile.Read("--prompt-file", file)];
        return !texts.Contains(string.Empty)
            ? texts.Length > 0 ? [.. texts.Select(t => new Prompt(t, null))] : [new Prompt(null, null)]
            : throw new UsageException(given[0], "a text of one character or more", "an empty one");
    }

    /// <summary>Its tokens, at least one.</summary>
    /// <exception cref="UsageException">The model cannot read it.</exception>
    public int[] Tokens(LlamaModel model) => Tokens(model, isStart: true);

    /// <summary>Its tokens as the continuation of a text; none for an empty prompt.</summary>
    /// <exception cref="UsageException">The model cannot read it.</exception>
    public int[] MoreTokens(LlamaModel model) => _text is null && _ids is null ? [] : Tokens(model, isStart: false);

    private int[] Tokens(LlamaModel model, bool isStart)
    {
        if (_ids is not null)
        {
            int vocabulary = model.Config.VocabularySize;
            int stray = Array.FindIndex(_ids, id => id >= vocabulary);
            return stray < 0 ? _ids : throw new UsageException("--prompt-tokens", $"token ids of 0..{vocabulary - 1}", $"{_ids[stray]}");
        }

        if (_text is null)
        {
            return model.Config.BosTokenId is { } bos
                ? [bos]
                : throw new UsageException("prompt", "one of --prompt, --prompt-file and --prompt-tokens (this model has no token that starts a text)", "none");
        }

        if (model.Tokenizer is not { } tokenizer)
        {
            throw model.TokenizerRefusal is { } refusal
                ? new UsageException("prompt", "--prompt-tokens, as the model's tokenizer is not served", $"a text ({refusal.Message})", refusal.Code)
                : new UsageException("prompt", "--prompt-tokens, as the model's directory has no tokenizer", "a text");
        }

        try
        {
            return tokenizer.Encode(_text, isStart);
        }
        catch (ArgumentException e)
        {
            throw new UsageException("prompt", "text in the model's vocabulary", e.Message);
        }
    }

    private static int[] ReadIds(string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        int[] ids = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out ids[i]))
            {
                throw new UsageException("--prompt-tokens", "token ids with commas between them, \"1,2,3\"", $"\"{parts[i]}\"");
            }
        }

        return ids;
    }
}
