using System.Text;
using System.Text.Json.Nodes;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>A request that is wrong, and what is said about it.</summary>
internal sealed record BadRequest(string Path, byte[]? Body, int Status, string Code, string? Parameter)
{
    public string Method { get; init; } = "POST";

    public string? ContentType { get; init; } = "application/json";

    public string? Encoding { get; init; }

    public bool IsChunked { get; init; }
}

/// <summary>Valid requests with one thing changed each.</summary>
internal static class BadRequests
{
    private const string Chat = "v1/chat/completions";
    private const string Completions = "v1/completions";
    private const string Value = "invalid_value";
    private const string Unsupported = "unsupported_parameter";
    private const string Missing = "missing_required_parameter";

    public static IReadOnlyDictionary<string, BadRequest> All { get; } = Make();

    public static byte[] Valid(string path) => Encoding.UTF8.GetBytes(ValidObject(path).ToJsonString());

    private static JsonObject ValidObject(string path) => JsonNode.Parse(path == Chat
        ? """{"model":"demo-model","messages":[{"role":"user","content":"And"}],"max_tokens":1,"temperature":0}"""
        : """{"model":"demo-model","prompt":"And","max_tokens":1,"temperature":0}""")!.AsObject();

    private static Dictionary<string, BadRequest> Make()
    {
        Dictionary<string, BadRequest> all = [];
        foreach (string path in new[] { Chat, Completions })
        {
            Common(all, path);
            Bodies(all, path);
        }

        OfChat(all);
        OfCompletions(all);
        Methods(all);
        return all;
    }

    private static void Common(Dictionary<string, BadRequest> all, string path)
    {
        foreach ((string field, string[] values) in new (string, string[])[]
        {
            ("temperature", ["-0.1", "2.1", "\"1\"", "[]", "{}", "true", "1e999"]),
            ("top_p", ["0", "-1", "1.1", "\"x\"", "[0.5]"]),
            ("min_p", ["-1", "2", "\"x\""]),
            ("repetition_penalty", ["0", "-1", "101", "\"x\""]),
            ("presence_penalty", ["-2.1", "2.1", "\"x\""]),
            ("frequency_penalty", ["-2.1", "2.1", "{}"]),
            ("n", ["0", "-1", "129", "1.5", "\"1\"", "9"]),
            ("max_tokens", ["0", "-1", "1.5", "\"5\"", "1000000000000"]),
            ("top_k", ["-1", "1.5", "\"x\""]),
            ("priority", ["-101", "101", "\"high\""]),
            ("seed", ["\"x\"", "1.5", "1e30"]),
            ("stop", ["5", "\"\"", "[\"\"]", "[1]", "{}", "[\"a\",null]", $"[{string.Join(',', Enumerable.Repeat("\"a\"", 17))}]"]),
            ("logit_bias", ["[]", "5", "{\"x\":1}", "{\"1\":101}", "{\"1\":\"a\"}", "{\"-1\":1}", "{\"1024\":1}"]),
            ("stream", ["\"yes\"", "1", "[]"]),
            ("stream_options", ["{\"include_usage\":true}"]),
            ("model", ["5", "[]", "{\"id\":\"demo-model\"}"]),
        })
        {
            foreach (string value in values)
            {
                Add(all, path, field, value, Value, field);
            }
        }

        Add(all, path, "max_tokens", "99999", "context_length_exceeded", "max_tokens");
        Add(all, path, "model", "null", Missing, "model");
        Add(all, path, "foo", "1", "unknown_parameter", "foo");
        Add(all, path, "Temperature", "1", "unknown_parameter", "Temperature");
        foreach (string name in new[] { "\"gpt-4o\"", "\"\"", "\"DEMO-MODEL\"" })
        {
            Add(all, path, "model", name, "model_not_found", "model", 404);
        }

        foreach ((string options, string code, string parameter) in new[] { ("5", Value, "stream_options"), ("{\"x\":1}", "unknown_parameter", "stream_options.x"), ("{\"include_usage\":1}", Value, "stream_options.include_usage") })
        {
            JsonObject body = ValidObject(path);
            body["stream"] = true;
            Set(all, path, $"{path}: a stream with options {options}", body, "stream_options", options, code, parameter, 400);
        }
    }

    private static void OfChat(Dictionary<string, BadRequest> all)
    {
        foreach ((string messages, string code, string parameter) in new[]
        {
            ("null", Missing, "messages"), ("[]", Value, "messages"), ("\"x\"", Value, "messages"), ("{}", Value, "messages"), ("[5]", Value, "messages[0]"), ("[null]", Value, "messages[0]"),
            ("[{}]", Missing, "messages[0].role"), ("[{\"role\":\"user\"}]", Missing, "messages[0].content"), ("[{\"role\":5,\"content\":\"x\"}]", Value, "messages[0].role"),
            ("[{\"role\":\"robot\",\"content\":\"x\"}]", Value, "messages[0].role"), ("[{\"role\":\"tool\",\"content\":\"x\"}]", Unsupported, "messages[0].role"),
            ("[{\"role\":\"function\",\"content\":\"x\"}]", Unsupported, "messages[0].role"), ("[{\"role\":\"user\",\"content\":5}]", Value, "messages[0].content"),
            ("[{\"role\":\"user\",\"content\":null}]", Missing, "messages[0].content"), ("[{\"role\":\"user\",\"content\":{}}]", Value, "messages[0].content"),
            ("[{\"role\":\"user\",\"content\":[5]}]", Value, "messages[0].content[0]"), ("[{\"role\":\"user\",\"content\":[{}]}]", Missing, "messages[0].content[0].type"),
            ("[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", Missing, "messages[0].content[0].text"), ("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":5}]}]", Value, "messages[0].content[0].text"),
            ("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://example.org/a.png\"}}]}]", Unsupported, "messages[0].content[0].type"),
            ("[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]", Unsupported, "messages[0].content[0].type"),
            ("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\",\"foo\":1}]}]", "unknown_parameter", "messages[0].content[0].foo"),
            ("[{\"role\":\"user\",\"content\":\"x\",\"foo\":1}]", "unknown_parameter", "messages[0].foo"),
            ("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"id\":\"1\"}]}]", Unsupported, "messages[1].tool_calls"),
            ("[{\"role\":\"assistant\",\"content\":\"x\",\"refusal\":\"no\"}]", Unsupported, "messages[0].refusal"), ("[{\"role\":\"assistant\",\"content\":\"x\",\"audio\":{\"id\":\"1\"}}]", Unsupported, "messages[0].audio"),
            ("[{\"role\":\"assistant\",\"content\":\"x\",\"function_call\":{\"name\":\"f\"}}]", Unsupported, "messages[0].function_call"),
        })
        {
            Add(all, Chat, "messages", messages, code, parameter);
        }

        foreach ((string field, string value) in new[]
        {
            ("tools", "[{\"type\":\"function\"}]"), ("tools", "{}"), ("functions", "[{\"name\":\"f\"}]"), ("tool_choice", "\"required\""), ("tool_choice", "{\"type\":\"function\"}"), ("function_call", "{\"name\":\"f\"}"),
            ("response_format", "{\"type\":\"json_object\"}"), ("response_format", "{\"type\":\"json_schema\",\"json_schema\":{}}"), ("response_format", "\"text\""), ("modalities", "[\"audio\"]"), ("modalities", "[\"text\",\"audio\"]"),
            ("audio", "{}"), ("prediction", "{}"), ("web_search_options", "{}"), ("reasoning_effort", "\"low\""), ("verbosity", "\"low\""), ("guided_json", "{}"), ("guided_regex", "\"a\""), ("guided_choice", "[]"),
        })
        {
            Add(all, Chat, field, value, Unsupported, field);
        }

        foreach ((string field, string value) in new[] { ("logprobs", "\"yes\""), ("logprobs", "5"), ("top_logprobs", "5"), ("top_logprobs", "21"), ("top_logprobs", "-1"), ("max_completion_tokens", "0"), ("max_completion_tokens", "\"5\"") })
        {
            Add(all, Chat, field, value, Value, field);
        }

        foreach (string field in new[] { "prompt", "echo", "suffix", "best_of" })
        {
            Add(all, Chat, field, "1", "unknown_parameter", field);
        }

        JsonObject huge = ValidObject(Chat);
        huge["messages"]![0]!["content"] = string.Join(' ', Enumerable.Repeat("and it came to pass", 4000));
        all["chat: a conversation beyond the context"] = new BadRequest(Chat, Encoding.UTF8.GetBytes(huge.ToJsonString()), 400, "context_length_exceeded", "messages");
    }

    private static void OfCompletions(Dictionary<string, BadRequest> all)
    {
        Add(all, Completions, "prompt", "null", Missing, "prompt");
        string many = $"[{string.Join(',', Enumerable.Repeat("\"a\"", 65))}]";
        foreach (string prompt in new[] { "5", "{}", "[]", "[[]]", "[\"x\",5]", "[1,\"x\"]", "[1.5]", "[-1]", "[1024]", "[[1],\"x\"]", "[[1],[[2]]]", "[null]", "[true]", "true", "[9999999999]", many })
        {
            Add(all, Completions, "prompt", prompt, Value, "prompt");
        }

        foreach ((string field, string value) in new[] { ("echo", "true"), ("echo", "1"), ("suffix", "\"x\""), ("suffix", "5"), ("best_of", "2"), ("best_of", "\"1\"") })
        {
            Add(all, Completions, field, value, Unsupported, field);
        }

        foreach (string value in new[] { "6", "-1", "true", "\"1\"", "1.5" })
        {
            Add(all, Completions, "logprobs", value, Value, "logprobs");
        }

        foreach (string field in new[] { "messages", "tools", "response_format", "top_logprobs", "max_completion_tokens" })
        {
            Add(all, Completions, field, "1", "unknown_parameter", field);
        }

        Add(all, Completions, "prompt", $"[{string.Join(',', Enumerable.Repeat("5", 4096))}]", "context_length_exceeded", "prompt");
    }

    private static void Bodies(Dictionary<string, BadRequest> all, string path)
    {
        string valid = Encoding.UTF8.GetString(Valid(path));
        foreach ((string name, string body) in new[]
        {
            ("empty", ""), ("half", valid[..^5]), ("more after it", valid + "{}"), ("NaN", valid.Replace(":0}", ":NaN}", StringComparison.Ordinal)), ("a comment", "/* x */" + valid),
            ("a comma too many", valid.Replace("}", ",}", StringComparison.Ordinal)), ("a name twice", valid[..^1] + ",\"model\":\"demo-model\"}"), ("deep", valid[..^1] + ",\"user\":" + new string('[', 99) + new string(']', 99) + "}"),
            ("single quotes", valid.Replace('"', '\'')), ("half of a surrogate pair", valid.Replace("And", "\\ud800", StringComparison.Ordinal)), ("a form", "model=demo-model"),
        })
        {
            all[$"{path}: {name}"] = new BadRequest(path, Encoding.UTF8.GetBytes(body), 400, "invalid_json", null);
        }

        foreach (string body in new[] { "[]", "5", "null", "\"x\"", "true" })
        {
            all[$"{path}: the body {body}"] = new BadRequest(path, Encoding.UTF8.GetBytes(body), 400, Value, null);
        }

        byte[] notUtf8 = Valid(path);
        notUtf8[Array.IndexOf(notUtf8, (byte)'A')] = 0xff;
        all[$"{path}: not UTF-8"] = new BadRequest(path, notUtf8, 400, "invalid_json", null);
        foreach (string? type in new[] { null, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml" })
        {
            all[$"{path}: of type {type ?? "none"}"] = new BadRequest(path, Valid(path), 415, "unsupported_media_type", null) { ContentType = type };
        }

        foreach (string encoding in new[] { "gzip", "br", "identity" })
        {
            all[$"{path}: encoded as {encoding}"] = new BadRequest(path, Valid(path), 415, "unsupported_content_encoding", null) { Encoding = encoding };
        }

        byte[] large = Encoding.UTF8.GetBytes(valid[..^1] + new string(' ', 8 << 20) + "}");
        all[$"{path}: too large"] = new BadRequest(path, large, 413, "body_too_large", null);
        all[$"{path}: too large, in chunks"] = new BadRequest(path, large, 413, "body_too_large", null) { IsChunked = true };
    }

    private static void Methods(Dictionary<string, BadRequest> all)
    {
        foreach (string method in new[] { "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS" })
        {
            foreach (string path in new[] { Chat, Completions })
            {
                all[$"{method} {path}"] = new BadRequest(path, null, 405, "method_not_allowed", null) { Method = method };
            }
        }

        foreach (string path in new[] { "v1/models", "v1/models/demo-model", "health", "live/events" })
        {
            all[$"POST {path}"] = new BadRequest(path, Valid(Chat), 405, "method_not_allowed", null);
        }

        foreach (string path in new[] { "v1/embeddings", "v1/responses", "v1/chat", "v1/completions/x", "v1/", "v1/files/1" })
        {
            all[$"POST {path}"] = new BadRequest(path, Valid(Chat), 404, "not_found", null);
        }

        all["GET v1/models/gpt"] = new BadRequest("v1/models/gpt", null, 404, "model_not_found", "model") { Method = "GET" };
        all["GET live/events?id=x"] = new BadRequest("live/events?id=x", null, 400, Value, "id") { Method = "GET" };
        foreach ((string body, string code) in new[] { ("{}", Missing), ("{\"watermark\":0}", Value), ("{\"watermark\":1.1}", Value), ("{\"watermark\":\"x\"}", Value) })
        {
            all[$"the budget {body}"] = new BadRequest("live/budget", Encoding.UTF8.GetBytes(body), 400, code, "watermark");
        }
    }

    private static void Add(Dictionary<string, BadRequest> all, string path, string field, string value, string code, string parameter, int status = 400) =>
        Set(all, path, $"{(path == Chat ? "chat" : "completions")}: {field} = {(value.Length < 60 ? value : value[..60] + "...")}", ValidObject(path), field, value, code, parameter, status);

    private static void Set(Dictionary<string, BadRequest> all, string path, string name, JsonObject body, string field, string value, string code, string parameter, int status)
    {
        // As text: JsonNode would not hold numbers beyond a double's range.
        body.Remove(field);
        string text = body.ToJsonString();
        all.Add(name, new BadRequest(path, Encoding.UTF8.GetBytes($"{text[..^1]},\"{field}\":{value}}}"), status, code, parameter));
    }
}
