using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Reads requests of <c>/v1/completions</c>.</summary>
internal static class CompletionRequest
{
    // As OpenAI's.
    private const int UsualTokens = 16;
    private const int MostTop = 5;
    private const string Expected = "a text, a list of texts, tokens, or a list of lists of tokens";

    /// <summary>Reads one.</summary>
    /// <param name="root">The body.</param>
    /// <param name="model">The model.</param>
    /// <param name="mostPrompts">The most prompts of it.</param>
    public static ParsedRequest Read(JsonElement root, KvServedModel model, int mostPrompts)
    {
        Fields fields = new(root);
        GenerationSettings settings = GenerationSettings.Read(fields, model.Name);
        long most = fields.Whole("max_tokens", 1, int.MaxValue) ?? UsualTokens;
        long? top = fields.Whole("logprobs", 0, MostTop);
        fields.Plain("echo", value => value.ValueKind == JsonValueKind.False, "false");
        fields.Plain("suffix", value => value.ValueKind == JsonValueKind.String && value.ValueEquals(""), "nothing");
        fields.Plain("best_of", value => value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int count) && count == settings.Choices, "as many as n");
        JsonElement prompt = fields.Take("prompt") ?? throw fields.Missing("prompt", Expected);
        fields.ThrowIfMore();
        List<int[]> prompts = Prompts(fields, prompt, model.Tokenizer);
        return prompts.Count <= mostPrompts
            ? new ParsedRequest(settings, prompts, (int)most, (int?)top)
            : throw ApiError.Invalid($"prompt: expected at most {mostPrompts} prompts, got {prompts.Count}", "prompt", "invalid_value");
    }

    private static List<int[]> Prompts(Fields fields, JsonElement prompt, IKvTokenizer? tokenizer)
    {
        if (prompt.ValueKind == JsonValueKind.String)
        {
            return [Encode(prompt.GetString()!, tokenizer)];
        }

        if (prompt.ValueKind != JsonValueKind.Array || prompt.GetArrayLength() == 0)
        {
            throw fields.Wrong("prompt", Expected, prompt);
        }

        // The first element says what kind all are of.
        return prompt[0].ValueKind switch
        {
            JsonValueKind.Number => [Tokens(fields, prompt)],
            JsonValueKind.String => [.. prompt.EnumerateArray().Select(one => one.ValueKind == JsonValueKind.String ? Encode(one.GetString()!, tokenizer) : throw fields.Wrong("prompt", Expected, one))],
            JsonValueKind.Array => [.. prompt.EnumerateArray().Select(one => one.ValueKind == JsonValueKind.Array ? Tokens(fields, one) : throw fields.Wrong("prompt", Expected, one))],
            _ => throw fields.Wrong("prompt", Expected, prompt[0]),
        };
    }

    private static int[] Tokens(Fields fields, JsonElement list) =>
        [.. list.EnumerateArray().Select(one => one.ValueKind == JsonValueKind.Number && one.TryGetInt32(out int token) ? token : throw fields.Wrong("prompt", Expected, one))];

    private static int[] Encode(string text, IKvTokenizer? tokenizer)
    {
        if (tokenizer is null)
        {
            throw ApiError.Invalid("prompt: expected tokens, since the model has no tokenizer", "prompt", "no_tokenizer");
        }

        try
        {
            return tokenizer.Encode(text, start: true);
        }
        catch (ArgumentException refusal)
        {
            throw ApiError.Invalid($"prompt: {refusal.Message}", "prompt", "invalid_value");
        }
    }
}
