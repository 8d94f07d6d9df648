using System.Globalization;
using System.Text.Json;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>What chat and completions have in common.</summary>
internal sealed record GenerationSettings
{
    private const int MostStops = 16;
    private const int MostBiases = 1024;
    private const double MostPenalty = 2;
    private const double MostBias = 100;

    /// <summary>How tokens are chosen.</summary>
    public required KvSampling Sampling { get; init; }

    /// <summary>Number of answers to each prompt.</summary>
    public required int Choices { get; init; }

    /// <summary>Texts that end an answer.</summary>
    public required IReadOnlyList<string> Stops { get; init; }

    /// <summary>True for pieces as they come.</summary>
    public required bool IsStream { get; init; }

    /// <summary>True for a last piece with usage.</summary>
    public required bool IncludesUsage { get; init; }

    /// <summary>The request's priority.</summary>
    public required int Priority { get; init; }

    /// <summary>Reads them.</summary>
    /// <param name="fields">The request.</param>
    /// <param name="model">The model's name.</param>
    public static GenerationSettings Read(Fields fields, string model)
    {
        string asked = fields.Text("model") ?? throw fields.Missing("model", "the name of a model");
        if (asked != model)
        {
            throw ApiError.NoModel(model);
        }

        bool isStream = fields.Flag("stream") ?? false;
        bool includesUsage = false;
        if (fields.Take("stream_options") is { } options)
        {
            Fields own = new(options, "stream_options.");
            includesUsage = own.Flag("include_usage") ?? false;
            own.Ignore("include_obfuscation");
            own.ThrowIfMore();
            if (!isStream)
            {
                throw ApiError.Invalid("stream_options: expected with stream = true alone", "stream_options", "invalid_value");
            }
        }

        // Names that change nothing of an answer: who asks, what is kept, how it is billed.
        fields.Ignore("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention");
        return new GenerationSettings
        {
            IsStream = isStream,
            IncludesUsage = includesUsage,
            Choices = (int)(fields.Whole("n", 1, 128) ?? 1),
            Priority = (int)(fields.Whole("priority", -100, 100) ?? 0),
            Stops = ReadStops(fields),
            Sampling = new KvSampling
            {
                Temperature = fields.Number("temperature", 0, 2) ?? 1,
                TopP = fields.Number("top_p", 0, 1, isAbove: true) ?? 1,
                TopK = (int)(fields.Whole("top_k", 0, int.MaxValue) ?? 0),
                MinP = fields.Number("min_p", 0, 1) ?? 0,
                RepetitionPenalty = fields.Number("repetition_penalty", 0, MostBias, isAbove: true) ?? 1,
                PresencePenalty = fields.Number("presence_penalty", -MostPenalty, MostPenalty) ?? 0,
                FrequencyPenalty = fields.Number("frequency_penalty", -MostPenalty, MostPenalty) ?? 0,
                Seed = fields.Whole("seed", long.MinValue, long.MaxValue) is { } seed ? unchecked((int)(seed ^ (seed >> 32))) : null,
                LogitBias = ReadBias(fields),
            },
        };
    }

    private static List<string> ReadStops(Fields fields)
    {
        if (fields.Take("stop") is not { } value)
        {
            return [];
        }

        const string expected = "a text that is not empty, or up to 16 of them";
        if (value.ValueKind == JsonValueKind.String)
        {
            return [Stop(value)];
        }

        return value.ValueKind == JsonValueKind.Array && value.GetArrayLength() <= MostStops ? [.. value.EnumerateArray().Select(Stop)] : throw fields.Wrong("stop", expected, value);

        string Stop(JsonElement one) => one.ValueKind == JsonValueKind.String && one.GetString() is { Length: > 0 } text ? text : throw fields.Wrong("stop", expected, one);
    }

    private static Dictionary<int, float>? ReadBias(Fields fields)
    {
        if (fields.Take("logit_bias") is not { } value)
        {
            return null;
        }

        const string expected = "an object of up to 1024 tokens, each with a number from -100 to 100";
        if (value.ValueKind != JsonValueKind.Object || value.GetPropertyCount() > MostBiases)
        {
            throw fields.Wrong("logit_bias", expected, value);
        }

        Dictionary<int, float> biases = [];
        foreach (JsonProperty one in value.EnumerateObject())
        {
            bool isToken = int.TryParse(one.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int token);
            bool isBias = one.Value.ValueKind == JsonValueKind.Number && one.Value.TryGetDouble(out double bias) && Math.Abs(bias) <= MostBias;
            biases[token] = isToken && isBias ? (float)one.Value.GetDouble() : throw fields.Wrong("logit_bias", expected, one.Value);
        }

        return biases;
    }
}
