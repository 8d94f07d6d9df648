using System.Text.Json;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli.Tests;

public sealed class RunTests
{
    private const string Beginning = "In the beginning God created";

    [Fact]
    public void Json_is_exactly_the_document_of_the_contract()
    {
        JsonElement run = Tool.Json("run", "--prompt", Beginning, "--max-new-tokens", "24", "--device", "cpu");

        Schema.Check(run, "model string, device string, prompt_tokens array, tokens array, text string, tokens_per_second number, cache object");
        JsonElement cache = Schema.Check(
            run.GetProperty("cache"), "tokens number, allocated_bytes number, full_precision_bytes number, evicted_tokens number, pages object");
        JsonElement pages = Schema.Check(cache.GetProperty("pages"), "open number, sealed number, formats array");
        using LlamaModel model = DemoModel.Load();
        Assert.Equal(("demo-model", "cpu"), (run.Text("model"), run.Text("device")));
        Assert.Equal(model.Tokenizer!.Encode(Beginning), run.Ints("prompt_tokens"));
        Assert.Equal(24, run.Ints("tokens").Length);
        Assert.Equal(model.Tokenizer.Decode(run.Ints("tokens")), run.Text("text"));
        Assert.True(run.Double("tokens_per_second") > 0);
        int held = run.Ints("prompt_tokens").Length + 24 - 1;
        Assert.Equal(held, cache.Long("tokens"));
        Assert.Equal(held * 4 * 2 * 128 * 2, cache.Long("full_precision_bytes"));
        Assert.Equal(0, cache.Double("evicted_tokens"));
        Assert.Equal(8, pages.Long("open") + pages.Long("sealed"));
    }

    [Fact]
    public void Greedy_tokens_are_the_same_twice_and_are_the_decoders_own()
    {
        string[] args = ["run", "--prompt", Beginning, "--max-new-tokens", "80", "--device", "cpu"];
        int[] first = Tool.Json(args).Ints("tokens");
        int[] second = Tool.Json(args).Ints("tokens");

        using LlamaModel model = DemoModel.Load();
        using LlamaDecoder decoder = new(model);
        using KvCache cache = new(model.Geometry(), new KvCacheOptions { Device = "cpu", MaxTokens = 256 });
        using KvSequence sequence = cache.CreateSequence();
        int[] expected = [.. decoder.Generate(sequence, model.Tokenizer!.Encode(Beginning), new GenerateOptions { MaxNewTokens = 80 })];
        Assert.Equal(first, second);
        Assert.Equal(expected, first);
    }

    [Fact]
    public void A_seed_draws_the_same_tokens_again_and_another_draws_others()
    {
        int[] Draw(string seed) => Tool.Json("run", "--prompt", Beginning, "--max-new-tokens", "32", "--temperature", "1", "--seed", seed).Ints("tokens");

        int[] seven = Draw("7");
        Assert.Equal(seven, Draw("7"));
        Assert.NotEqual(seven, Draw("8"));
        Assert.NotEqual(seven, Tool.Json("run", "--prompt", Beginning, "--max-new-tokens", "32", "--seed", "7").Ints("tokens"));
    }

    [Fact]
    public void A_prompt_may_come_as_text_as_a_file_or_as_tokens()
    {
        string file = Path.Combine(Directory.CreateTempSubdirectory("kvcache-cli-").FullName, "prompt.txt");
        File.WriteAllText(file, Beginning);
        JsonElement text = Tool.Json("run", "--prompt", Beginning, "--max-new-tokens", "8");
        JsonElement fromFile = Tool.Json("run", "--prompt-file", file, "--max-new-tokens", "8");
        JsonElement fromTokens = Tool.Json("run", "--prompt-tokens", string.Join(", ", text.Ints("prompt_tokens")), "--max-new-tokens", "8");
        Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);

        Assert.Equal(text.Ints("prompt_tokens"), fromFile.Ints("prompt_tokens"));
        Assert.Equal(text.Ints("tokens"), fromFile.Ints("tokens"));
        Assert.Equal(text.Ints("prompt_tokens"), fromTokens.Ints("prompt_tokens"));
        Assert.Equal(text.Ints("tokens"), fromTokens.Ints("tokens"));
    }

    [Fact]
    public void A_file_may_begin_with_a_byte_order_mark()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        string file = Path.Combine(folder, "prompt.txt");
        File.WriteAllText(file, Beginning, System.Text.Encoding.UTF8);
        int[] tokens = Tool.Json("run", "--prompt-file", file, "--max-new-tokens", "1").Ints("prompt_tokens");
        Directory.Delete(folder, recursive: true);
        using LlamaModel model = DemoModel.Load();
        Assert.Equal(model.Tokenizer!.Encode(Beginning), tokens);
    }

    [Fact]
    public void A_model_without_a_tokenizer_takes_tokens_and_gives_tokens()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        foreach (string name in (string[])["config.json", "model.safetensors"])
        {
            File.Copy(Path.Combine(DemoModel.Directory, name), Path.Combine(folder, name));
        }

        JsonElement run = Tool.Json("run", "--model", folder, "--prompt-tokens", "0,75,112", "--max-new-tokens", "3");
        Tool plain = Tool.Run("run", "--model", folder, "--prompt-tokens", "0,75,112", "--max-new-tokens", "3");
        string refused = Tool.Refused(2, "E003", "run", "--model", folder, "--prompt", "text");
        Directory.Delete(folder, recursive: true);

        Assert.Equal((Path.GetFileName(folder), null), (run.Text("model"), run.Text("text")));
        Assert.Equal(Tool.Json("run", "--prompt-tokens", "0,75,112", "--max-new-tokens", "3").Ints("tokens"), run.Ints("tokens"));
        Assert.Equal(string.Join(' ', run.Ints("tokens")) + Environment.NewLine, plain.Output);
        Assert.Contains("--prompt-tokens", refused, StringComparison.Ordinal);
    }

    [Fact]
    public void Device_code_generates_what_SIMD_generates()
    {
        string[] args = ["run", "--prompt", Beginning, "--max-new-tokens", "8", "--key-format", "f32", "--value-format", "f32", "--device"];
        JsonElement emulated = Tool.Json([.. args, "ilgpu-cpu"]);
        Assert.Equal("ilgpu-cpu", emulated.Text("device"));
        Assert.Equal(Tool.Json([.. args, "cpu"]).Ints("tokens"), emulated.Ints("tokens"));
    }

    [Theory]
    [InlineData("@file")]
    [InlineData("-x")]
    [InlineData("--- and on")]
    public void A_prompt_may_look_like_syntax(string prompt)
    {
        using LlamaModel model = DemoModel.Load();
        Assert.Equal(model.Tokenizer!.Encode(prompt), Tool.Json("run", "--prompt", prompt, "--max-new-tokens", "1").Ints("prompt_tokens"));
    }

    [Fact]
    public void Without_a_prompt_the_text_begins_as_every_text_does()
    {
        Assert.Equal([0], Tool.Json("run", "--max-new-tokens", "2").Ints("prompt_tokens"));
    }

    [Fact]
    public void Text_streams_to_stdout_and_only_the_summary_to_stderr()
    {
        Tool plain = Tool.Run("run", "--prompt", Beginning, "--max-new-tokens", "12");

        Assert.Equal(0, plain.Exit);
        Assert.Equal(Tool.Json("run", "--prompt", Beginning, "--max-new-tokens", "12").Text("text") + Environment.NewLine, plain.Output);
        Assert.StartsWith("[12 tokens, ", plain.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Formats_and_policies_reach_the_cache()
    {
        string tokens = string.Join(',', Enumerable.Repeat("75,112,260,808", 100));
        JsonElement Cache(params string[] options) => CacheOf(tokens, options);
        JsonElement CacheOf(string prompt, params string[] options) =>
            Tool.Json(["run", "--prompt-tokens", prompt, "--max-new-tokens", "4", .. options]).GetProperty("cache");

        JsonElement f16 = Cache();
        JsonElement f32 = Cache("--key-format", "F32", "--value-format", "f32");
        JsonElement i8 = Cache("--key-format", "i8", "--value-format", "i8");
        JsonElement mixed = Cache("--key-format", "i8");
        JsonElement window = Cache("--policy", "window:64");
        Assert.Equal(0, f16.Double("evicted_tokens"));
        Assert.True(f32.Long("allocated_bytes") > f16.Long("allocated_bytes"));
        Assert.InRange(mixed.Long("allocated_bytes"), i8.Long("allocated_bytes") + 1, f16.Long("allocated_bytes") - 1);
        // 403 tokens: pages 1..3 end at least a page before the window; page 0 holds the sinks.
        Assert.Equal(192, window.Double("evicted_tokens"));
        Assert.True(window.Long("allocated_bytes") < f16.Long("allocated_bytes"));

        // The model tells the cache of its rope.
        JsonElement foreseen = CacheOf($"{tokens},{tokens}", "--policy", "expected-attention", "--memory-budget", "110%");
        Assert.True(foreseen.Double("evicted_tokens") > 0);
    }

    [Fact]
    public void A_page_pool_takes_what_the_plan_says()
    {
        string tokens = string.Join(',', Enumerable.Repeat("75", 500));
        using LlamaModel model = DemoModel.Load();
        foreach (PageFormat format in Enum.GetValues<PageFormat>())
        {
            KvFormats pair = format.IsForKeys() ? FormatPair.Of(format, null) : FormatPair.Of(null, format);
            using KvCache cache = new(model.Geometry(), new KvCacheOptions { Device = "cpu", MaxTokens = 512, KeyFormat = pair.Key, ValueFormat = pair.Value });
            using KvSequence sequence = cache.CreateSequence();
            using LlamaDecoder decoder = new(model);
            decoder.Prefill(sequence, [.. tokens.Split(',').Select(t => int.Parse(t, System.Globalization.CultureInfo.InvariantCulture))], default);
            Assert.Equal(sequence.AllocatedBytes, new ContextPlan(model.Geometry(), pair.Key, pair.Value).PageBytes(500));
        }
    }

    [Fact]
    public void A_format_given_alone_takes_its_partner_and_pages_are_told_by_format()
    {
        string tokens = string.Join(',', Enumerable.Repeat("75,112,260,808", 100));
        foreach ((string option, string format, string key, string value) in ((string, string, string, string)[])
            [
                ("--key-format", "t4", "t4", "v4"), ("--value-format", "v3", "t3", "v3"), ("--value-format", "v2", "t2", "v2"), ("--key-format", "q8_0", "q8_0", "q8_0"),
                ("--key-format", "i8", "i8", "f16"), ("--value-format", "fp8", "fp8", "fp8"),
            ])
        {
            JsonElement run = Tool.Json("run", "--prompt-tokens", tokens, "--max-new-tokens", "2", option, format);
            JsonElement[] formats = [.. run.GetProperty("cache").GetProperty("pages").GetProperty("formats").EnumerateArray()];
            Assert.Equal(2, formats.Length);
            Schema.Check(formats[0], "key_format string, value_format string, open number, sealed number, bytes number");
            Assert.Equal(("f16", "f16", 8L, 0L), (formats[0].Text("key_format"), formats[0].Text("value_format"), formats[0].Long("open"), formats[0].Long("sealed")));

            // 401 tokens: 7 pages of each of 8 rows, of which 6 are sealed.
            Assert.Equal((key, value, 0L, 48L), (formats[1].Text("key_format"), formats[1].Text("value_format"), formats[1].Long("open"), formats[1].Long("sealed")));
        }

        Assert.Contains("t4 with v4", Tool.Refused(2, "E003", "run", "--key-format", "t4", "--value-format", "f16"), StringComparison.Ordinal);
        Assert.Contains("got v4/v4", Tool.Refused(2, "E003", "run", "--key-format", "v4", "--value-format", "v4"), StringComparison.Ordinal);
    }
}
