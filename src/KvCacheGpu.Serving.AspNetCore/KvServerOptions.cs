namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>What a server lets its clients do. Thread safety: as that of any class with setters; the server reads it when it begins.</summary>
public sealed class KvServerOptions
{
    /// <summary>The keys that clients send as <c>Authorization: Bearer KEY</c>, and whose they are. The default value is null: no key is asked for, and all clients are one.</summary>
    public KvApiKeys? ApiKeys { get; set; }

    /// <summary>The tenant that sees the sequences of all on the live page, and may move the cache's budget there. The default value is "admin". Without keys everybody may.</summary>
    public string AdminTenant { get; set; } = "admin";

    /// <summary>The most bytes of a request's body. The default value is 8 MiB.</summary>
    public int MaxBodyBytes { get; set; } = 8 << 20;

    /// <summary>Within which a request's body must have come. The default value is 30 seconds.</summary>
    public TimeSpan BodyTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>The most tokens of a prompt. The default value is null: what the scheduler takes.</summary>
    public int? MaxPromptTokens { get; set; }

    /// <summary>The most prompts of one request to <c>/v1/completions</c>. The default value is 64.</summary>
    public int MaxPrompts { get; set; } = 64;

    /// <summary>Requests of a tenant in a minute; as many may come at once after a quiet minute. The default value is null: no limit.</summary>
    public int? RequestsPerMinute { get; set; }

    /// <summary>Time within which an answer must have ended. The default value is null: no limit.</summary>
    public TimeSpan? Deadline { get; set; }

    /// <summary>How long a server that is told to stop goes on with the answers that it has begun; new requests are refused meanwhile. The default value is 25 seconds.</summary>
    public TimeSpan DrainTime { get; set; } = TimeSpan.FromSeconds(25);

    /// <summary>True for <c>/metrics</c>, which asks for no key. The default value is true.</summary>
    public bool Metrics { get; set; } = true;

    /// <summary>True for the live page at <c>/</c>. The default value is true.</summary>
    public bool LivePage { get; set; } = true;

    /// <summary>Time between two pictures of the live page, 50 milliseconds at least. The default value is half a second.</summary>
    public TimeSpan LiveInterval { get; set; } = TimeSpan.FromMilliseconds(500);

    internal void ThrowIfInvalid()
    {
        Check(MaxBodyBytes >= 1, nameof(MaxBodyBytes), MaxBodyBytes, "at least 1");
        Check(BodyTimeout > TimeSpan.Zero, nameof(BodyTimeout), BodyTimeout, "more than no time");
        Check(MaxPromptTokens is null or >= 1, nameof(MaxPromptTokens), MaxPromptTokens, "at least 1");
        Check(MaxPrompts >= 1, nameof(MaxPrompts), MaxPrompts, "at least 1");
        Check(RequestsPerMinute is null or >= 1, nameof(RequestsPerMinute), RequestsPerMinute, "at least 1");
        Check(Deadline is null || Deadline > TimeSpan.Zero, nameof(Deadline), Deadline, "more than no time");
        Check(DrainTime >= TimeSpan.Zero, nameof(DrainTime), DrainTime, "no time or more");
        Check(LiveInterval >= TimeSpan.FromMilliseconds(50), nameof(LiveInterval), LiveInterval, "50 milliseconds or more");

        static void Check(bool holds, string name, object? value, string expected)
        {
            if (!holds)
            {
                throw new ArgumentOutOfRangeException(name, value, $"expected {expected}");
            }
        }
    }
}
