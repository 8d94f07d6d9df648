using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>Requests that are wrong in some way get a status and an error of OpenAI's form that names what is wrong, and leave the server as it was.</summary>
public sealed class BadRequestTests(BadRequestTests.Server fixture) : IClassFixture<BadRequestTests.Server>
{
    public static TheoryData<string> Names => [.. BadRequests.All.Keys];

    [Fact]
    public void There_are_more_than_200_kinds() => Assert.True(BadRequests.All.Count > 200, $"{BadRequests.All.Count} kinds");

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Each_is_refused_by_name(string name)
    {
        BadRequest bad = BadRequests.All[name];
        using HttpClient client = fixture.Running.Client();
        using HttpRequestMessage request = new(new HttpMethod(bad.Method), bad.Path);
        if (bad.Body is not null)
        {
            request.Content = bad.IsChunked ? new StreamContent(new MemoryStream(bad.Body)) : new ByteArrayContent(bad.Body);
            request.Content.Headers.ContentType = bad.ContentType is null ? null : MediaTypeHeaderValue.Parse(bad.ContentType);
            request.Headers.TransferEncodingChunked = bad.IsChunked ? true : null;
            if (bad.Encoding is { } encoding)
            {
                request.Content.Headers.ContentEncoding.Add(encoding);
            }
        }

        using HttpResponseMessage answer = await client.SendAsync(request);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(bad.Status == (int)answer.StatusCode, $"expected {bad.Status}, got {(int)answer.StatusCode}: {text}");
        if (bad.Method == "HEAD")
        {
            return;
        }

        using JsonDocument document = JsonDocument.Parse(text);
        JsonElement error = document.RootElement.GetProperty("error");
        Assert.Equal(("invalid_request_error", bad.Code, bad.Parameter), (error.GetProperty("type").GetString(), error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
        Assert.NotEmpty(error.GetProperty("message").GetString()!);
        Assert.Equal(0, (await fixture.Running.Scheduler.GetStatusAsync()).Requests);
    }

    public sealed class Server : IAsyncLifetime
    {
        internal TestServer Running { get; private set; } = null!;

        public async Task InitializeAsync() => Running = await TestServer.StartAsync();

        public async Task DisposeAsync()
        {
            // After all of them it still answers.
            using HttpClient client = Running.Client();
            using StringContent good = new(Encoding.UTF8.GetString(BadRequests.Valid("v1/completions")), Encoding.UTF8, "application/json");
            Assert.Equal(HttpStatusCode.OK, (await client.PostAsync(new Uri("v1/completions", UriKind.Relative), good)).StatusCode);
            await Running.DisposeAsync();
        }
    }
}
