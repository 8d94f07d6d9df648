using System.Globalization;
using Microsoft.Extensions.AI;

namespace KvCacheGpu.Serving.AI;

/// <summary>Options of a conversation as a scheduler takes them.</summary>
internal sealed record ChatSettings
{
    /// <summary>The most tokens of the answer; null for what is left of the context.</summary>
    public int? MaxNewTokens { get; private init; }

    /// <summary>How tokens are chosen.</summary>
    public required KvSampling Sampling { get; init; }

    /// <summary>Texts that end the answer.</summary>
    public required IReadOnlyList<string> Stops { get; init; }

    /// <summary>Whose request it is.</summary>
    public string? Tenant { get; private init; }

    /// <summary>The request's priority.</summary>
    public int Priority { get; private init; }

    /// <summary>Within which the answer must have ended.</summary>
    public TimeSpan? Deadline { get; private init; }

    /// <summary>Reads options.</summary>
    /// <param name="options">The options.</param>
    /// <param name="model">The model's name.</param>
    /// <exception cref="NotSupportedException">One asks for what is not served; the message names it.</exception>
    public static ChatSettings Of(ChatOptions options, string model)
    {
        RefuseWhatIsNotServed(options, model);
        Dictionary<string, object?> more = new(options.AdditionalProperties ?? [], StringComparer.Ordinal);
        ChatSettings settings = new()
        {
            MaxNewTokens = options.MaxOutputTokens,
            Stops = [.. options.StopSequences ?? []],
            Sampling = new KvSampling
            {
                Temperature = options.Temperature ?? 1,
                TopK = options.TopK ?? 0,
                TopP = options.TopP ?? 1,
                PresencePenalty = options.PresencePenalty ?? 0,
                FrequencyPenalty = options.FrequencyPenalty ?? 0,
                Seed = options.Seed is { } seed ? unchecked((int)(seed ^ (seed >> 32))) : null,
                MinP = Take<double>("min_p", 0),
                RepetitionPenalty = Take<double>("repetition_penalty", 1),
            },
            Priority = Take("priority", 0),
            Tenant = Take<string?>("tenant", null),
            Deadline = Take<TimeSpan?>("deadline", null),
        };
        return more.Keys.FirstOrDefault() is { } unknown ? throw Unsupported($"AdditionalProperties[\"{unknown}\"]") : settings;

        T Take<T>(string name, T usual)
        {
            if (!more.Remove(name, out object? value) || value is null)
            {
                return usual;
            }

            try
            {
                return value is T own ? own : (T)Convert.ChangeType(value, typeof(T), CultureInfo.InvariantCulture);
            }
            catch (Exception e) when (e is InvalidCastException or FormatException or OverflowException)
            {
                throw new ArgumentException($"AdditionalProperties[\"{name}\"]: expected {typeof(T).Name}, got {value.GetType().Name}", nameof(options));
            }
        }
    }

    private static void RefuseWhatIsNotServed(ChatOptions options, string model)
    {
        if (options.ModelId is { } id && id != model)
        {
            throw new NotSupportedException($"ChatOptions.ModelId: expected \"{model}\", got \"{id}\"");
        }

        if (options.Tools is { Count: > 0 })
        {
            throw Unsupported(nameof(options.Tools));
        }

        if (options.ToolMode is RequiredChatToolMode)
        {
            throw Unsupported(nameof(options.ToolMode));
        }

        if (options.ResponseFormat is not (null or ChatResponseFormatText))
        {
            throw Unsupported(nameof(options.ResponseFormat));
        }

        if (options.Reasoning is not null)
        {
            throw Unsupported(nameof(options.Reasoning));
        }

        if (options.ConversationId is not null)
        {
            throw Unsupported(nameof(options.ConversationId));
        }
    }

    private static NotSupportedException Unsupported(string name) => new($"ChatOptions.{name} is not served");
}
