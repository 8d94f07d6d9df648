using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>A refusal or failure as clients see it: OpenAI's kinds of errors.</summary>
internal sealed class ApiError(int status, string type, string message, string? parameter = null, string? code = null) : Exception(message)
{
    private const string InvalidRequest = "invalid_request_error";
    private const string Server = "server_error";

    /// <summary>The HTTP status.</summary>
    public int Status => status;

    /// <summary>The kind, "invalid_request_error".</summary>
    public string Type => type;

    /// <summary>The parameter at fault, as requests name it.</summary>
    public string? Parameter => parameter;

    /// <summary>What programs tell it by.</summary>
    public string? Code => code;

    /// <summary>After how long to ask again; null if that is not known.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The body.</summary>
    public ErrorBody Body => new(new ErrorContent(Message, Type, Parameter, Code));

    /// <summary>The request is wrong.</summary>
    public static ApiError Invalid(string message, string? parameter = null, string? code = null) =>
        new(StatusCodes.Status400BadRequest, InvalidRequest, message, parameter, code);

    /// <summary>The request is wrong in a way that has a status of its own.</summary>
    public static ApiError Refused(int status, string message, string code) => new(status, InvalidRequest, message, null, code);

    /// <summary>A parameter is known, and not served.</summary>
    public static ApiError Unsupported(string parameter, string why) => Invalid($"{parameter}: {why}", parameter, "unsupported_parameter");

    /// <summary>There is no such model.</summary>
    public static ApiError NoModel(string expected) => new(StatusCodes.Status404NotFound, InvalidRequest, $"there is no such model; this server has \"{expected}\"", "model", "model_not_found");

    /// <summary>No key, or a wrong one.</summary>
    public static ApiError NoKey(bool isMissing) => new(
        StatusCodes.Status401Unauthorized, "authentication_error", isMissing ? "expected Authorization: Bearer KEY" : "the API key is not one of this server's", null, isMissing ? "missing_api_key" : "invalid_api_key");

    /// <summary>The tenant may not do that.</summary>
    public static ApiError Forbidden() => new(StatusCodes.Status403Forbidden, "permission_error", "only the administrator's key may do this", null, "forbidden");

    /// <summary>Too many requests.</summary>
    public static ApiError TooMany(string message, string code, TimeSpan retryAfter) =>
        new(StatusCodes.Status429TooManyRequests, "rate_limit_error", message, null, code) { RetryAfter = retryAfter };

    /// <summary>The server is about to stop.</summary>
    public static ApiError Draining() => new(StatusCodes.Status503ServiceUnavailable, Server, "the server is about to stop, and takes no more requests", null, "draining") { RetryAfter = TimeSpan.FromSeconds(5) };

    /// <summary>An answer has not ended in time.</summary>
    public static ApiError Late() => new(StatusCodes.Status504GatewayTimeout, "timeout_error", "the answer did not end within the time that a request may take", null, "deadline_exceeded");

    /// <summary>Something failed here. What, the log says: it may tell of other clients.</summary>
    public static ApiError Failed(string code) => new(StatusCodes.Status500InternalServerError, Server, "the server failed to answer", null, code);

    /// <summary>What the client hears of an answer that has not come to its own end; null if it has.</summary>
    /// <param name="finish">How it ended.</param>
    /// <param name="failure">What failed, if something did.</param>
    public static ApiError? Of(KvFinish finish, Exception? failure) => finish switch
    {
        KvFinish.Stop or KvFinish.Length => null,
        KvFinish.Deadline => Late(),
        KvFinish.Closed or KvFinish.Cancelled => Draining(),
        _ => Failed(failure is KvCacheException known ? known.Code : "failed"),
    };
}
