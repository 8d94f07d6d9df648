using System.Text.Json;
using KvCacheGpu.Serving.AI;
using Microsoft.Extensions.AI;
using static KvCacheGpu.Serving.AspNetCore.Tests.TestServer;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>The client of .NET's own contract goes to the scheduler without a server between.</summary>
public class ChatClientTests
{
    private const string Prompt = "In the beginning God created the heaven and the earth.";

    [Fact]
    public async Task The_chat_client_of_dotnet_answers_as_the_endpoint_does()
    {
        await using TestServer server = await StartAsync();
        using KvChatClient client = new KvChatClient(server.Model, server.Scheduler);
        ChatOptions options = new() { MaxOutputTokens = 12, Temperature = 0, Instructions = "Read." };
        ChatResponse answer = await client.GetResponseAsync(Prompt, options);
        JsonElement expected = await server.PostAsync("v1/chat/completions", new
        {
            model = "demo-model",
            messages = new[] { new { role = "system", content = "Read." }, new { role = "user", content = Prompt } },
            max_tokens = 12,
            temperature = 0,
        });
        Assert.Equal(expected.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString(), answer.Text);
        Assert.Equal((12L, expected.GetProperty("usage").GetProperty("prompt_tokens").GetInt64()), (answer.Usage!.OutputTokenCount!.Value, answer.Usage.InputTokenCount!.Value));
        Assert.Equal(ChatFinishReason.Length, answer.FinishReason);
        ChatResponse streamed = await client.GetStreamingResponseAsync(Prompt, options).ToChatResponseAsync();
        Assert.Equal((answer.Text, answer.FinishReason, 12L), (streamed.Text, streamed.FinishReason, streamed.Usage!.OutputTokenCount!.Value));
        Assert.Same(server.Scheduler, client.GetService<KvScheduler>());
        ChatOptions[] refused =
        [
            new() { Tools = [AIFunctionFactory.Create(() => 1, "one")] },
            new() { ResponseFormat = ChatResponseFormat.Json },
            new() { ModelId = "other" },
            new() { AdditionalProperties = new() { ["grammar"] = "x" } },
        ];
        foreach (ChatOptions one in refused)
        {
            await Assert.ThrowsAsync<NotSupportedException>(() => client.GetResponseAsync(Prompt, one));
        }

        ChatMessage picture = new(ChatRole.User, [new UriContent("https://example.org/a.png", "image/png")]);
        await Assert.ThrowsAsync<NotSupportedException>(() => client.GetResponseAsync([picture]));
    }

    [Fact]
    public async Task A_model_without_template_is_refused()
    {
        await using TestServer server = await StartAsync(hasTemplate: false);
        Assert.Throws<ArgumentException>(() => new KvChatClient(server.Model, server.Scheduler));
    }
}
