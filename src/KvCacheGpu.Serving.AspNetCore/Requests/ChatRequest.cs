using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Reads requests of <c>/v1/chat/completions</c>.</summary>
internal static class ChatRequest
{
    private const int MostTop = 20;

    /// <summary>Reads one.</summary>
    /// <param name="root">The body.</param>
    /// <param name="model">The model.</param>
    public static ParsedRequest Read(JsonElement root, KvServedModel model)
    {
        Fields fields = new(root);
        GenerationSettings settings = GenerationSettings.Read(fields, model.Name);
        long? old = fields.Whole("max_tokens", 1, int.MaxValue);
        long? most = fields.Whole("max_completion_tokens", 1, int.MaxValue) ?? old;
        bool tells = fields.Flag("logprobs") ?? false;
        long? top = fields.Whole("top_logprobs", 0, MostTop);
        if (top is not null && !tells)
        {
            throw ApiError.Invalid("top_logprobs: expected with logprobs = true alone", "top_logprobs", "invalid_value");
        }

        RefuseWhatIsNotServed(fields);
        JsonElement messages = fields.Take("messages") ?? throw fields.Missing("messages", "a list of messages");
        fields.ThrowIfMore();
        IReadOnlyList<KvChatMessage> conversation = Messages(fields, messages);
        return new ParsedRequest(settings, [Prompt(conversation, model)], (int?)most, tells ? (int)(top ?? 0) : null);
    }

    private static void RefuseWhatIsNotServed(Fields fields)
    {
        foreach (string list in new[] { "tools", "functions" })
        {
            fields.Plain(list, value => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0, "no tools");
        }

        foreach (string choice in new[] { "tool_choice", "function_call" })
        {
            fields.Plain(choice, value => IsText(value, "none") || IsText(value, "auto"), "\"none\"");
        }

        fields.Plain("response_format", IsPlainText, "{\"type\": \"text\"}");
        fields.Plain("modalities", value => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 1 && IsText(value[0], "text"), "[\"text\"]");
        foreach (string name in new[] { "audio", "prediction", "web_search_options", "reasoning_effort", "verbosity", "guided_json", "guided_regex", "guided_choice" })
        {
            fields.Plain(name, _ => false, "nothing");
        }

        fields.Ignore("parallel_tool_calls");
    }

    private static List<KvChatMessage> Messages(Fields fields, JsonElement messages)
    {
        if (messages.ValueKind != JsonValueKind.Array || messages.GetArrayLength() == 0)
        {
            throw fields.Wrong("messages", "a list of at least one message", messages);
        }

        List<KvChatMessage> read = [];
        foreach ((int i, JsonElement message) in messages.EnumerateArray().Index())
        {
            string within = $"messages[{i}].";
            Fields own = new(message, within);
            string role = own.Text("role") ?? throw own.Missing("role", "\"system\", \"user\" or \"assistant\"");
            if (role is "tool" or "function")
            {
                throw ApiError.Unsupported($"{within}role", "answers of tools are not served here");
            }

            role = role switch
            {
                "developer" => "system",
                "system" or "user" or "assistant" => role,
                _ => throw ApiError.Invalid($"{within}role: expected \"system\", \"developer\", \"user\" or \"assistant\", got another", $"{within}role", "invalid_value"),
            };
            own.Plain("tool_calls", value => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0, "no calls of tools");
            foreach (string name in new[] { "function_call", "audio", "refusal" })
            {
                own.Plain(name, _ => false, "nothing");
            }

            own.Ignore("name", "annotations");
            JsonElement content = own.Take("content") ?? throw own.Missing("content", "a text, or a list of parts");
            own.ThrowIfMore();
            read.Add(new KvChatMessage(role, Content(own, content, within)));
        }

        return read;
    }

    private static string Content(Fields message, JsonElement content, string within)
    {
        if (content.ValueKind == JsonValueKind.String)
        {
            return content.GetString()!;
        }

        if (content.ValueKind != JsonValueKind.Array)
        {
            throw message.Wrong("content", "a text, or a list of parts", content);
        }

        StringBuilder text = new();
        foreach ((int i, JsonElement part) in content.EnumerateArray().Index())
        {
            string path = $"{within}content[{i}].";
            Fields own = new(part, path);
            string type = own.Text("type") ?? throw own.Missing("type", "\"text\"");
            if (type != "text")
            {
                throw ApiError.Unsupported($"{path}type", "parts of other kinds than \"text\" are not served here");
            }

            text.Append(own.Text("text") ?? throw own.Missing("text", "a text"));
            own.ThrowIfMore();
        }

        return text.ToString();
    }

    private static int[] Prompt(IReadOnlyList<KvChatMessage> messages, KvServedModel model)
    {
        if (model.ChatTemplate is not { } template || model.Tokenizer is not { } tokenizer)
        {
            string why = model.Tokenizer is null ? "it has no tokenizer" : model.ChatTemplateRefusal ?? "it has no chat template";
            throw ApiError.Invalid($"messages: the model takes no conversations: {why}", "messages", "no_chat_template");
        }

        try
        {
            return tokenizer.Encode(template.Render(messages, addGenerationPrompt: true), start: false);
        }
        catch (ArgumentException refusal)
        {
            throw ApiError.Invalid($"messages: {refusal.Message}", "messages", "invalid_value");
        }
    }

    private static bool IsPlainText(JsonElement format) =>
        format.ValueKind == JsonValueKind.Object && format.GetPropertyCount() == 1 && format.TryGetProperty("type", out JsonElement type) && IsText(type, "text");

    private static bool IsText(JsonElement value, string text) => value.ValueKind == JsonValueKind.String && value.ValueEquals(text);
}
