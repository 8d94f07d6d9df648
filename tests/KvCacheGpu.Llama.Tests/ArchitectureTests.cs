using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Every architecture served, in whole files and in shards, against the plain forward pass, and the settings of each that are refused.</summary>
public sealed class ArchitectureTests
{
    private const string Llama3 =
        """{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":16}""";

    [Theory]
    [InlineData("LlamaForCausalLM", "F32", 1, "{}")]
    [InlineData("LlamaForCausalLM", "BF16", 2, """{"rope_theta":500000,"rope_scaling":""" + Llama3 + "}")]
    [InlineData("LlamaForCausalLM", "F16", 3, """{"rope_scaling":{"rope_type":"linear","factor":3}}""")]
    [InlineData("LlamaForCausalLM", "F32", 1, """{"sliding_window":3}""")]
    [InlineData("MistralForCausalLM", "BF16", 2, """{"sliding_window":7}""")]
    [InlineData("MistralForCausalLM", "F32", 1, """{"sliding_window":1}""")]
    [InlineData("MistralForCausalLM", "F16", 1, """{"sliding_window":null}""")]
    [InlineData("Qwen2ForCausalLM", "BF16", 2, """{"sliding_window":6,"use_sliding_window":false,"max_window_layers":1}""")]
    [InlineData("Qwen2ForCausalLM", "F32", 1, """{"sliding_window":6,"use_sliding_window":true,"max_window_layers":1}""")]
    [InlineData("Qwen3ForCausalLM", "BF16", 2, """{"rope_theta":1000000}""")]
    [InlineData("Qwen3ForCausalLM", "F32", 1, """{"sliding_window":5,"use_sliding_window":true,"layer_types":["sliding_attention","full_attention","sliding_attention"]}""")]
    public void Logits_are_those_of_the_plain_forward_pass(string architecture, string type, int shards, string config)
    {
        using TinyCheckpoint checkpoint = new(9, type, tied: shards == 1, inner: 37, vocabulary: 45, architecture: architecture, layers: 3);
        foreach ((string key, JsonNode? value) in JsonNode.Parse(config)!.AsObject())
        {
            checkpoint.Config[key] = value?.DeepClone();
        }

        using LlamaModel model = (shards == 1 ? checkpoint.Write() : checkpoint.WriteShards(shards)).Load();
        using KvCache cache = DemoFixture.NewCache(model, pageTokens: 5);
        using LlamaDecoder decoder = new(model, 16);
        using KvSequence sequence = cache.CreateSequence();
        Random random = new(3);
        int[] ids = [.. Enumerable.Range(0, 31).Select(_ => random.Next(45))];
        float[] logits = new float[ids.Length * 45];
        foreach ((int first, int count) in new[] { (0, 16), (16, 13), (29, 1), (30, 1) })
        {
            decoder.Forward(sequence, ids.AsSpan(first, count), logits.AsSpan(first * 45, count * 45));
        }

        DemoFixture.AssertClose(new PlainLlama(checkpoint.Path).Logits(ids), logits);
    }

    [Fact]
    public void Absent_keys_mean_what_they_mean_to_transformers()
    {
        using TinyCheckpoint mistral = new(heads: 8, kvHeads: null, headWidth: null, architecture: "MistralForCausalLM", hidden: 64);
        LlamaConfig config = Config(mistral);
        Assert.Equal((8, 8, 131_072), (config.KvHeads, config.HeadWidth, config.MaxPositions));
        Assert.Equal([4096, 4096], config.Windows);
        using TinyCheckpoint qwen3 = new(headWidth: null, architecture: "Qwen3ForCausalLM");
        Assert.Equal(128, Config(qwen3).HeadWidth);
        qwen3.Config["use_sliding_window"] = true;
        Assert.Equal([0, 0], Config(qwen3).Windows);
        qwen3.Config["head_dim"] = null;
        qwen3.Config["hidden_size"] = 32;
        Assert.Equal(8, Config(qwen3).HeadWidth);
        qwen3.Config.Remove("architectures");
        Assert.Equal("Qwen3ForCausalLM", Config(qwen3).Architecture.Name);
    }

    [Fact]
    public void Ends_of_generation_config_are_ends_too()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.WriteText("generation_config.json", """{"eos_token_id":[2,7],"temperature":0.6}""");
        Assert.Equal([1, 2, 7], Config(checkpoint).EosTokenIds);
        checkpoint.WriteText("generation_config.json", """{"eos_token_id":50}""");
        Assert.Contains("generation_config.json: eos_token_id", checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("MistralForCausalLM", "sliding_window", "0", "E004")]
    [InlineData("MistralForCausalLM", "sliding_window", "\"4\"", "E004")]
    [InlineData("MistralForCausalLM", "model_type", "\"llama\"", "E009")]
    [InlineData("Qwen2ForCausalLM", "layer_types", "[\"full_attention\"]", "E004")]
    [InlineData("Qwen2ForCausalLM", "layer_types", "[\"full_attention\",\"sliding_attention\"]", "E004")]
    [InlineData("Qwen2ForCausalLM", "layer_types", "[\"full_attention\",\"chunked_attention\"]", "E009")]
    [InlineData("Qwen2ForCausalLM", "use_sliding_window", "1", "E004")]
    [InlineData("Qwen2ForCausalLM", "use_mrope", "true", "E009")]
    [InlineData("Qwen3ForCausalLM", "attention_bias", "true", "E009")]
    public void What_changes_the_forward_pass_is_refused_by_name(string architecture, string key, string value, string code)
    {
        using TinyCheckpoint checkpoint = new(architecture: architecture);
        checkpoint.Config[key] = JsonNode.Parse(value);
        LlamaFormatException error = checkpoint.Write().Refused();
        Assert.Equal(code, error.Code);
        Assert.StartsWith($"{code}: config.json: {key}", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Qwen2ForCausalLM", "model.layers.1.self_attn.k_proj.bias")]
    [InlineData("Qwen3ForCausalLM", "model.layers.0.self_attn.q_norm.weight")]
    public void An_architecture_s_own_tensors_are_needed_there_and_refused_elsewhere(string architecture, string tensor)
    {
        using TinyCheckpoint lacking = new(architecture: architecture);
        lacking.Tensors.Remove(tensor);
        Assert.StartsWith($"E004: model.safetensors: {tensor}", lacking.Write().Refused().Message, StringComparison.Ordinal);
        using TinyCheckpoint foreign = new(architecture: "MistralForCausalLM");
        foreign.Add(tensor, "F32", 8);
        Assert.EndsWith($"only what MistralForCausalLM is made of is supported, got {tensor}", foreign.Write().Refused().Message, StringComparison.Ordinal);
    }

    private static LlamaConfig Config(TinyCheckpoint checkpoint) => LlamaConfig.Load(Path.Combine(checkpoint.Write().Path, "config.json"));
}
