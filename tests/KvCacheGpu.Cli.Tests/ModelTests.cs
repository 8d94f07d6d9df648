using System.Text.Json;
using KvCacheGpu.Llama.Tests;

namespace KvCacheGpu.Cli.Tests;

public sealed class ModelTests
{
    [Fact]
    public void A_model_of_another_architecture_runs_and_is_planned()
    {
        using BentModel model = new(config =>
        {
            (config["architectures"]![0], config["model_type"], config["sliding_window"]) = ("MistralForCausalLM", "mistral", 8);
        });
        string[] prompts = ["--prompt", "In the beginning God created the heaven and the earth", "--prompt", "In the beginning God created"];
        JsonElement run = Tool.Json(["run", .. prompts, "--model", model.Path, "--max-new-tokens", "24"]);
        JsonElement demo = Tool.Json(["run", .. prompts, "--max-new-tokens", "24"]);
        JsonElement alone = Tool.Json(["run", .. prompts[..2], "--model", model.Path, "--max-new-tokens", "24"]);

        // The same weights that see 8 tokens only say something else.
        Assert.Equal(alone.Ints("tokens"), run.GetProperty("runs")[0].Ints("tokens"));
        Assert.NotEqual(demo.GetProperty("runs")[0].Ints("tokens"), run.GetProperty("runs")[0].Ints("tokens"));
        JsonElement plan = Tool.Json("plan", "--model", model.Path, "--context", "4096");
        Assert.Equal(4096L * 4 * 2 * 128 * 2, plan.Long("dense_f16_bytes"));
    }

    [Theory]
    [InlineData("Qwen2ForCausalLM", "qwen2")]
    [InlineData("Qwen3ForCausalLM", "qwen3")]
    public void Qwen_is_planned_from_its_configuration_and_refused_without_its_weights(string architecture, string type)
    {
        using BentModel model = new(config => (config["architectures"]![0], config["model_type"]) = (architecture, type));
        Assert.Equal(64L * 4 * 2 * 128 * 2, Tool.Json("plan", "--model", model.Path, "--context", "64").Long("dense_f16_bytes"));
        Tool.Refused(2, "E004", "run", "--model", model.Path);
    }

    [Fact]
    public void A_tokenizer_model_reads_and_writes_text()
    {
        using BentModel model = new(config => (config["bos_token_id"], config["eos_token_id"]) = (1, 2), withTokenizer: false);
        File.WriteAllBytes(Path.Combine(model.Path, "tokenizer.model"), new TinyPieces().ToBytes());
        JsonElement run = Tool.Json("run", "--model", model.Path, "--prompt", "the inn", "--prompt", "the r", "--max-new-tokens", "3");
        JsonElement alone = Tool.Json("run", "--model", model.Path, "--prompt", "the r", "--max-new-tokens", "3");

        JsonElement second = run.GetProperty("runs")[1];
        Assert.Equal(1, second.Ints("prompt_tokens")[0]);
        Assert.Equal(alone.Ints("prompt_tokens"), second.Ints("prompt_tokens"));
        Assert.Equal(alone.Ints("tokens"), second.Ints("tokens"));
        Assert.Equal(alone.Text("text"), second.Text("text"));
    }
}
