using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads a checkpoint's rope from its config.json.</summary>
internal static class RopeParameters
{
    // Checkpoints since 2025 have theta and scaling together in rope_parameters.
    public static KvRope Read(JsonFile file)
    {
        JsonElement? parameters = file.Find("rope_parameters");
        JsonElement? scaling = parameters ?? file.Find("rope_scaling");
        if (scaling is { ValueKind: not JsonValueKind.Object })
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "rope_scaling", "an object", scaling.Value.GetRawText());
        }

        JsonFile rope = scaling is null ? file : file.At(scaling.Value);
        foreach (JsonFile part in new[] { file, rope })
        {
            part.Support(part.Find("partial_rotary_factor") is null || part.Positive("partial_rotary_factor") == 1, "partial_rotary_factor", "1");
            part.Support(part.Find("mrope_section") is null, "mrope_section", "one angle for all of a position");
        }

        double theta = file.Positive("rope_theta", parameters is null ? 10_000 : file.At(parameters.Value).Positive("rope_theta", 10_000));
        var plain = new KvRope { Theta = theta };
        return scaling is null ? plain : Stretched(plain, file.At(scaling.Value));
    }

    private static KvRope Stretched(KvRope plain, JsonFile scaling)
    {
        switch (scaling.Text("rope_type") ?? scaling.Text("type") ?? "none")
        {
            case "default":
                return plain;
            case "linear":
                return plain with { Factor = scaling.Positive("factor") };
            case "llama3":
                (double low, double high) = (scaling.Positive("low_freq_factor"), scaling.Positive("high_freq_factor"));
                if (high <= low)
                {
                    LlamaFormatException.ThrowCorrupt(scaling.Name, "high_freq_factor", "more than low_freq_factor", $"{high}");
                }

                return plain with
                {
                    Factor = scaling.Positive("factor"),
                    LowFrequencyFactor = low,
                    HighFrequencyFactor = high,
                    OriginalContext = scaling.Int("original_max_position_embeddings", 1, int.MaxValue),
                };
            case var kind:
                LlamaFormatException.ThrowUnsupported(scaling.Name, "rope_scaling", "default, linear or llama3", kind);
                return plain;
        }
    }
}
