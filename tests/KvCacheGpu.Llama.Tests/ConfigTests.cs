using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>config.json: settings that are served, and settings that are refused because the forward pass would differ.</summary>
public sealed class ConfigTests
{
    [Theory]
    [InlineData("architectures", "[\"MixtralForCausalLM\"]")]
    [InlineData("architectures", "[\"LlamaForCausalLM\",\"Other\"]")]
    [InlineData("architectures", "[]")]
    [InlineData("architectures", "\"LlamaForCausalLM\"")]
    [InlineData("model_type", "\"qwen2\"")]
    [InlineData("hidden_act", "\"gelu\"")]
    [InlineData("attention_bias", "true")]
    [InlineData("mlp_bias", "true")]
    [InlineData("quantization_config", "{\"bits\":4}")]
    [InlineData("rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4}")]
    [InlineData("rope_scaling", "{\"factor\":4}")]
    [InlineData("rope_scaling", "{\"rope_type\":\"dynamic\",\"factor\":4}")]
    [InlineData("rope_scaling", "{\"type\":\"default\",\"mrope_section\":[1,1,2]}")]
    [InlineData("partial_rotary_factor", "0.5")]
    [InlineData("rope_parameters", "{\"rope_type\":\"default\",\"partial_rotary_factor\":0.25}")]
    [InlineData("head_dim", "7")]
    [InlineData("head_dim", "1024")]
    public void Other_architectures_are_not_served(string key, string value) => Assert.Equal("E009", Refused(key, value).Code);

    [Theory]
    [InlineData("hidden_size", null)]
    [InlineData("vocab_size", null)]
    [InlineData("num_hidden_layers", null)]
    [InlineData("num_attention_heads", null)]
    [InlineData("intermediate_size", null)]
    [InlineData("rms_norm_eps", null)]
    [InlineData("hidden_size", "0")]
    [InlineData("hidden_size", "-24")]
    [InlineData("hidden_size", "\"24\"")]
    [InlineData("hidden_size", "24.5")]
    [InlineData("hidden_size", "99999999999")]
    [InlineData("num_key_value_heads", "3")]
    [InlineData("num_key_value_heads", "8")]
    [InlineData("rms_norm_eps", "0")]
    [InlineData("rms_norm_eps", "\"small\"")]
    [InlineData("rope_theta", "-1")]
    [InlineData("rope_scaling", "\"linear\"")]
    [InlineData("rope_scaling", "{\"type\":\"linear\"}")]
    [InlineData("tie_word_embeddings", "1")]
    [InlineData("bos_token_id", "50")]
    [InlineData("eos_token_id", "[1,\"x\"]")]
    [InlineData("model_type", "3")]
    [InlineData("rope_scaling", "{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,\"original_max_position_embeddings\":9}")]
    public void Values_that_are_missing_or_senseless_are_refused_by_name(string key, string? value)
    {
        LlamaFormatException error = Refused(key, value);
        Assert.Equal("E004", error.Code);
        Assert.StartsWith($"E004: config.json: {(value?.Contains("llama3", StringComparison.Ordinal) == true ? "high_freq_factor" : value?.StartsWith('{') == true ? "factor" : key)}", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[1]")]
    [InlineData("{\"hidden_size\":1,\"hidden_size\":2}")]
    [InlineData("{\"hidden_size\":\u00001}")]
    public void What_is_no_object_is_refused(string text)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write().WriteText("config.json", text);
        Assert.Equal("E004", checkpoint.Refused().Code);
    }

    [Fact]
    public void Rope_scaling_of_llama3_fades_between_the_two_wavelengths()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Config["rope_theta"] = 500_000;
        checkpoint.Config["rope_scaling"] = JsonNode.Parse(
            """{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}""");
        checkpoint.Write();
        LlamaConfig config = LlamaConfig.Load(Path.Combine(checkpoint.Path, "config.json"));
        double[] plain = new KvRope { Theta = 500_000 }.Frequencies(128);
        double[] stretched = config.Rope.Frequencies(128);
        for (int i = 0; i < plain.Length; i++)
        {
            double wavelength = 2 * Math.PI / plain[i];
            double smooth = ((8192 / wavelength) - 1) / 3;
            double expected = wavelength < 8192 / 4.0 ? plain[i] : wavelength > 8192 ? plain[i] / 8 : ((1 - smooth) * plain[i] / 8) + (smooth * plain[i]);
            Assert.Equal(expected, stretched[i], expected * 1e-12);
        }
    }

    [Fact]
    public void Rope_parameters_of_newer_files_are_read()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Config["rope_parameters"] = JsonNode.Parse("""{"rope_type":"linear","factor":2,"rope_theta":1000}""");
        checkpoint.Write();
        LlamaConfig config = LlamaConfig.Load(Path.Combine(checkpoint.Path, "config.json"));
        Assert.Equal(new KvRope { Theta = 1000, Factor = 2 }, config.Rope);
        Assert.Equal([0.5, 0.5 * Math.Pow(1000, -0.5)], config.Rope.Frequencies(4));
        Assert.Equal(config.Rope, config.Geometry().Rope);
    }

    private static LlamaFormatException Refused(string key, string? value)
    {
        using TinyCheckpoint checkpoint = new();
        if (value is null)
        {
            checkpoint.Config.Remove(key);
        }
        else
        {
            checkpoint.Config[key] = JsonNode.Parse(value);
        }

        return checkpoint.Write().Refused();
    }
}
