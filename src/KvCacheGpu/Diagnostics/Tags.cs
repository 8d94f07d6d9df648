namespace KvCacheGpu;

/// <summary>Names of tags, and how their values are written: in lower case, with underscores.</summary>
internal static class Tags
{
    public const string Cache = "kvcache.name";
    public const string Device = "kvcache.device";
    public const string Tenant = "kvcache.tenant";
    public const string Tier = "kvcache.tier";
    public const string Kind = "kvcache.memory.kind";
    public const string Layout = "kvcache.page.layout";
    public const string State = "kvcache.page.state";
    public const string Resource = "kvcache.resource";
    public const string Result = "kvcache.prefix.result";
    public const string Event = "kvcache.event";
    public const string Direction = "kvcache.direction";
    public const string Operation = "kvcache.operation";
    public const string Snapshot = "kvcache.snapshot";
    public const string Error = "error.type";

    private static readonly string[] s_resources = [.. Enum.GetNames<KvResource>().Select(Lower)];

    /// <summary>A resource as a tag has it: "budget_bytes".</summary>
    public static string Of(KvResource resource) => s_resources[(int)resource];

    /// <summary>What went wrong, as <see cref="Error"/> has it: the code of our own errors, the type of others.</summary>
    public static string Of(Exception error) => error is KvCacheException own ? own.Code : error.GetType().FullName!;

    public static KeyValuePair<string, object?> Of(string name, string value) => new(name, value);

    private static string Lower(string name) =>
        string.Concat(name.Select((letter, i) => char.IsUpper(letter) ? $"{(i > 0 ? "_" : string.Empty)}{char.ToLowerInvariant(letter)}" : $"{letter}"));
}
