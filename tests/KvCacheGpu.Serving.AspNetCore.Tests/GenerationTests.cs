using System.ClientModel;
using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using OpenAI;
using OpenAI.Chat;
using static KvCacheGpu.Serving.AspNetCore.Tests.TestServer;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>Answers over HTTP are those of the scheduler, for the official client, for curl and for whoever speaks JSON.</summary>
public class GenerationTests
{
    private const string Prompt = "In the beginning God created the heaven and the earth.";

    [Fact]
    public async Task The_official_client_chats_and_streams()
    {
        await using TestServer server = await StartAsync();
        ChatClient client = OpenAi(server).GetChatClient("demo-model");
        ChatMessage[] messages = [new SystemChatMessage("Read."), new UserChatMessage(Prompt)];
        ChatCompletionOptions options = new() { MaxOutputTokenCount = 24, Temperature = 0, IncludeLogProbabilities = true, TopLogProbabilityCount = 3 };
        ChatCompletion whole = await client.CompleteChatAsync(messages, options);
        Assert.Equal(ChatFinishReason.Length, whole.FinishReason);
        Assert.Equal((24, 24), (whole.Usage.OutputTokenCount, whole.ContentTokenLogProbabilities.Count));
        Assert.All(whole.ContentTokenLogProbabilities, one => Assert.Equal(one.TopLogProbabilities[0].LogProbability, one.LogProbability, 1e-9));
        Assert.Equal(whole.Content[0].Text, string.Concat(whole.ContentTokenLogProbabilities.Select(one => one.Token)));

        StringBuilder text = new();
        ChatTokenUsage? usage = null;
        List<ChatFinishReason> reasons = [];
        await foreach (StreamingChatCompletionUpdate update in client.CompleteChatStreamingAsync(messages, options))
        {
            text.AppendJoin("", update.ContentUpdate.Select(part => part.Text));
            usage = update.Usage ?? usage;
            if (update.FinishReason is { } reason)
            {
                reasons.Add(reason);
            }
        }

        Assert.Equal(whole.Content[0].Text, text.ToString());
        Assert.Equal([ChatFinishReason.Length], reasons);
        Assert.Equal((whole.Usage.InputTokenCount, 24), (usage!.InputTokenCount, usage.OutputTokenCount));
        Assert.Equal("demo-model", (await OpenAi(server).GetOpenAIModelClient().GetModelsAsync()).Value.Single().Id);
        ClientResultException refusal = await Assert.ThrowsAsync<ClientResultException>(() => OpenAi(server).GetChatClient("gpt").CompleteChatAsync(messages));
        Assert.Equal(404, refusal.Status);
    }

    [CurlFact]
    public async Task Curl_reads_a_stream()
    {
        await using TestServer server = await StartAsync();
        string body = JsonSerializer.Serialize(Chat(Prompt, 6, new { stream = true, n = 2, stream_options = new { include_usage = true } }));
        ProcessStartInfo info = new("curl") { RedirectStandardOutput = true };
        foreach (string argument in new[] { "-sN", new Uri(server.Address, "v1/chat/completions").ToString(), "-H", "Content-Type: application/json", "-d", body })
        {
            info.ArgumentList.Add(argument);
        }

        using Process curl = Process.Start(info)!;
        string output = await curl.StandardOutput.ReadToEndAsync();
        await curl.WaitForExitAsync();
        string[] events = output.Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.All(events, one => Assert.StartsWith("data: ", one, StringComparison.Ordinal));
        Assert.Equal("data: [DONE]", events[^1]);
        JsonElement[] pieces = [.. events[..^1].Select(one => JsonDocument.Parse(one[6..]).RootElement)];
        string[] texts = [.. Enumerable.Range(0, 2).Select(i => string.Concat(pieces.SelectMany(ChoicesOf).Where(choice => choice.GetProperty("index").GetInt32() == i).Select(ContentOf)))];
        Assert.Equal(texts[0], texts[1]);
        Assert.Equal(12, pieces[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.Empty(ChoicesOf(pieces[^1]));
        JsonElement whole = await server.PostAsync("v1/chat/completions", Chat(Prompt, 6));
        Assert.Equal(whole.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString(), texts[0]);

        static IEnumerable<JsonElement> ChoicesOf(JsonElement piece) => piece.GetProperty("choices").EnumerateArray();
        static string? ContentOf(JsonElement choice) => choice.GetProperty("delta").TryGetProperty("content", out JsonElement content) ? content.GetString() : null;
    }

    [Fact]
    public async Task Completions_take_texts_and_tokens_and_answer_in_order()
    {
        await using TestServer server = await StartAsync();
        int[] tokens = server.Model.Tokenizer!.Encode(Prompt, start: true);
        string[] texts = await Texts(Completion(Prompt, 8));
        Assert.Equal(texts, await Texts(Completion(tokens, 8)));
        string[] both = await Texts(Completion(new[] { Prompt, "And the earth" }, 8, new { n = 2 }));
        Assert.Equal([texts[0], texts[0], both[2], both[2]], both);
        Assert.Equal(both[2..3], await Texts(Completion(new[] { server.Model.Tokenizer.Encode("And the earth", start: true) }, 8)));

        // What the scheduler generates by itself.
        KvAnswer own = (await server.Scheduler.Submit(new KvRequest { Prompt = tokens, MaxNewTokens = 8 }).CompleteAsync())[0];
        Assert.Equal(own.Text, texts[0]);
        Assert.NotEqual(texts, await Texts(Completion(Prompt, 8, new { logit_bias = new Dictionary<string, double> { [$"{own.Tokens[0]}"] = -100 } })));

        string stop = own.Text[10..13];
        JsonElement stopped = await server.PostAsync("v1/completions", Completion(Prompt, 8, new { stop = new[] { stop, "never" }, logprobs = 2 }));
        JsonElement choice = stopped.GetProperty("choices")[0];
        Assert.Equal(("stop", own.Text[..own.Text.IndexOf(stop, StringComparison.Ordinal)]), (choice.GetProperty("finish_reason").GetString(), choice.GetProperty("text").GetString()));
        Assert.Equal(0, choice.GetProperty("logprobs").GetProperty("text_offset")[0].GetInt32());
        Assert.Equal(2, choice.GetProperty("logprobs").GetProperty("top_logprobs")[0].EnumerateObject().Count());

        async Task<string[]> Texts(object body) =>
            [.. (await server.PostAsync("v1/completions", body)).GetProperty("choices").EnumerateArray().Select(one => one.GetProperty("text").GetString()!)];
    }

    [Fact]
    public async Task A_seed_draws_the_same_and_usage_tells_of_the_cache()
    {
        await using TestServer server = await StartAsync();
        string prompt = string.Join(' ', Enumerable.Repeat(Prompt, 12));
        object body = Chat(prompt, 20, new { temperature = 1, seed = 7, top_p = .9, n = 2 });
        JsonElement first = await server.PostAsync("v1/chat/completions", body);
        JsonElement second = await server.PostAsync("v1/chat/completions", body);
        string[] drawn = Contents(first);
        Assert.Equal(drawn, Contents(second));
        Assert.NotEqual(drawn[0], drawn[1]);
        Assert.Equal(0, Cached(first));
        Assert.True(Cached(second) >= 64, $"{Cached(second)} tokens");

        static string[] Contents(JsonElement body) => [.. body.GetProperty("choices").EnumerateArray().Select(one => one.GetProperty("message").GetProperty("content").GetString()!)];
        static int Cached(JsonElement body) => body.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
    }

    [Fact]
    public async Task A_model_without_template_takes_no_conversation()
    {
        await using TestServer server = await StartAsync(hasTemplate: false);
        JsonElement error = (await server.PostAsync("v1/chat/completions", Chat(Prompt, 2), HttpStatusCode.BadRequest)).GetProperty("error");
        Assert.Equal(("no_chat_template", "messages"), (error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
    }

    private static OpenAIClient OpenAi(TestServer server) => new(new ApiKeyCredential("none"), new OpenAIClientOptions { Endpoint = new Uri(server.Address, "v1") });
}
