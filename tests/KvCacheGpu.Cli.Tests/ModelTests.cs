using System.Text.Json;
using KvCacheGpu.Evaluation;
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

        // With the same weights, a window of 8 tokens gives another text.
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

    [Fact]
    public void A_pattern_that_runs_away_is_refused_in_one_line()
    {
        using BentModel model = new(_ => { }, withTokenizer: false);
        WriteTokenizer(model, """{"type":"Split","pattern":{"Regex":"(?:e|ee)+(?!x)z"},"behavior":"Isolated"}""", "BPE");
        Assert.Contains("runs away", Tool.Refused(2, "E009", "run", "--model", model.Path, "--prompt", new string('e', 70) + "!z", "--max-new-tokens", "1"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_tokenizer_that_is_not_served_leaves_ids_and_says_so()
    {
        using BentModel model = new(_ => { }, withTokenizer: false);
        WriteTokenizer(model, """{"type":"Split","pattern":{"Regex":"e"},"behavior":"Isolated"}""", "WordPiece");
        string[] ids = ["run", "--model", model.Path, "--prompt-tokens", "0,75,112", "--max-new-tokens", "3"];
        JsonElement run = Tool.Json(ids);
        Assert.Null(run.Text("text"));
        Tool plain = Tool.Run(ids);
        Assert.Equal(0, plain.Exit);
        Assert.Equal(string.Join(' ', run.Ints("tokens")) + Environment.NewLine, plain.Output);
        Assert.Contains("[tokens as ids: E009: tokenizer.json: model.type: only BPE is supported, got WordPiece]", plain.Error, StringComparison.Ordinal);
        string refused = Tool.Refused(2, "E009", "run", "--model", model.Path, "--prompt", "text");
        Assert.Contains("--prompt-tokens", refused, StringComparison.Ordinal);
        Assert.Contains("WordPiece", refused, StringComparison.Ordinal);
        Assert.Contains("WordPiece", Tool.Refused(1, "E009", "eval", "--quick", "--json", "--model", model.Path), StringComparison.Ordinal);
    }

    [Fact]
    public void A_pointer_that_stands_for_a_file_is_named_as_one()
    {
        using BentModel model = new(_ => { });
        File.WriteAllText(Path.Combine(model.Path, "model.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:77aa\nsize 6038264\n");
        Assert.Contains("Git LFS pointer", Tool.Refused(2, "E004", "run", "--model", model.Path, "--prompt-tokens", "1"), StringComparison.Ordinal);
    }

    private static void WriteTokenizer(BentModel model, string split, string type)
    {
        string vocabulary = File.ReadAllText(Path.Combine(DemoModel.Directory, "vocab.json"));
        File.WriteAllText(Path.Combine(model.Path, "tokenizer.json"), $$$"""
            {"pre_tokenizer":{"type":"Sequence","pretokenizers":[{{{split}}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
             "model":{"type":"{{{type}}}","vocab":{{{vocabulary}}},"merges":[]}}
            """);
    }
}
