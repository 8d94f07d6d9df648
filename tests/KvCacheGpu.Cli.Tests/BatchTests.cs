using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli.Tests;

public sealed partial class BatchTests
{
    private static readonly string[] _prompts =
        ["In the beginning God created the heaven", "In the beginning God created", "In the beginning was the word of the king"];

    [Fact]
    public void Json_of_several_prompts_is_one_document()
    {
        JsonElement run = Together(_prompts, "--max-new-tokens", "24", "--device", "cpu");

        Schema.Check(run, "model string, device string, runs array, tokens_per_second number, cache object");
        JsonElement cache = Schema.Check(
            run.GetProperty("cache"), "tokens number, allocated_bytes number, full_precision_bytes number, evicted_tokens number, pages object");
        Schema.Check(cache.GetProperty("pages"), "open number, sealed number, formats array");
        using LlamaModel model = DemoModel.Load();
        Assert.Equal(("demo-model", "cpu", 3), (run.Text("model"), run.Text("device"), Runs(run).Length));
        foreach ((JsonElement one, string prompt) in Runs(run).Zip(_prompts))
        {
            Schema.Check(one, "prompt_tokens array, tokens array, text string");
            Assert.Equal(model.Tokenizer!.Encode(prompt), one.Ints("prompt_tokens"));
            Assert.Equal(model.Tokenizer.Decode(one.Ints("tokens")), one.Text("text"));
        }

        long held = Runs(run).Sum(r => r.Ints("prompt_tokens").Length + r.Ints("tokens").Length - 1);
        Assert.Equal((held, held * 4 * 2 * 128 * 2), (cache.Long("tokens"), cache.Long("full_precision_bytes")));
        Assert.True(run.Double("tokens_per_second") > 0);
    }

    [Theory]
    [InlineData]
    [InlineData("--key-format", "f32", "--value-format", "f32")]
    [InlineData("--key-format", "i8", "--value-format", "i8")]
    [InlineData("--temperature", "1", "--seed", "7")]
    [InlineData("--device", "ilgpu-cpu", "--max-new-tokens", "3")]
    public void Each_of_several_prompts_is_continued_as_when_it_is_alone(params string[] options)
    {
        options = options.Contains("--max-new-tokens") ? options : [.. options, "--max-new-tokens", "80"];
        HoldToAlone(_prompts, Together(_prompts, options), options);
    }

    [Theory]
    [InlineData]
    [InlineData("--key-format", "i8", "--value-format", "i8")]
    [InlineData("--key-format", "i8")]
    [InlineData("--policy", "window:64")]
    public void A_long_common_beginning_is_held_once_and_changes_nothing(params string[] options)
    {
        options = [.. options, "--max-new-tokens", "12"];
        string[] prompts = Long("And the king said", "And the people wept", "And it came to pass");
        JsonElement together = Together(prompts, options);
        JsonElement[] alone = HoldToAlone(prompts, together, options);

        // 512 tokens at least are shared: 8 pages of each of 8 tables.
        JsonElement cache = together.GetProperty("cache");
        Assert.True(cache.Long("allocated_bytes") < alone.Sum(a => a.GetProperty("cache").Long("allocated_bytes")));
        Assert.Equal(alone.Sum(a => a.GetProperty("cache").Long("tokens")), cache.Long("tokens"));
        Assert.Equal(alone.Sum(a => a.GetProperty("cache").Double("evicted_tokens")), cache.Double("evicted_tokens"));
        if (!options.Contains("--policy"))
        {
            Assert.InRange(Pages(cache), Pages(alone[0].GetProperty("cache")), alone.Sum(a => Pages(a.GetProperty("cache"))) - (2 * 7 * 8));

            // Two of three prompts do not hold these: the elements of at least 7 pages of 64 tokens of width 64.
            int elementBytes = (options.Contains("--key-format") ? 1 : 2) + (options.Contains("--value-format") ? 1 : 2);
            long saved = alone.Sum(a => a.GetProperty("cache").Long("allocated_bytes")) - cache.Long("allocated_bytes");
            Assert.True(saved > 2 * 7 * 8 * 64 * 64 * elementBytes, $"{saved} bytes saved");
        }
    }

    [Fact]
    public void The_same_prompt_again_says_the_same_again()
    {
        string[] prompts = [_prompts[0], _prompts[2], _prompts[0], _prompts[0]];
        JsonElement[] runs = Runs(Together(prompts, "--max-new-tokens", "9"));
        Assert.Equal(runs[0].Ints("tokens"), runs[2].Ints("tokens"));
        Assert.Equal(runs[0].Ints("tokens"), runs[3].Ints("tokens"));
    }

    [Fact]
    public void A_prompt_that_ends_leaves_and_the_others_go_on()
    {
        int[][] free = [.. Runs(Together(_prompts, "--max-new-tokens", "40")).Select(r => r.Ints("tokens"))];
        int end = free[1].Take(30).Except(free[0]).First();
        using BentModel model = new(config => config["eos_token_id"] = end);
        string[] options = ["--model", model.Path, "--max-new-tokens", "40"];
        JsonElement run = Together(_prompts, options);

        HoldToAlone(_prompts, run, options);
        int[] lengths = [.. Runs(run).Select(r => r.Ints("tokens").Length)];
        Assert.True(lengths.Distinct().Count() > 1, string.Join(',', lengths));
        Assert.All(Runs(run).Where(r => r.Ints("tokens").Length < 40), r => Assert.Equal(end, r.Ints("tokens")[^1]));
    }

    [Fact]
    public void Each_prompt_has_the_room_that_the_context_leaves_it()
    {
        using BentModel model = new(config => config["max_position_embeddings"] = 40);
        JsonElement run = Together(_prompts, "--model", model.Path);

        HoldToAlone(_prompts, run, "--model", model.Path);
        Assert.All(Runs(run), r => Assert.Equal(40, r.Ints("prompt_tokens").Length + r.Ints("tokens").Length));
        Tool.Refused(2, "E003", "run", "--model", model.Path, "--prompt", _prompts[1], "--prompt", _prompts[0], "--max-new-tokens", "34");
    }

    [Fact]
    public void Texts_are_printed_under_their_prompts()
    {
        JsonElement[] runs = Runs(Together(_prompts, "--max-new-tokens", "12"));
        string end = Environment.NewLine;
        string expected = string.Concat(runs.Select((r, i) => $"[{i + 1}] {_prompts[i]}{end}{r.Text("text")}{end}"));
        Tool plain = Tool.Run(["run", "--max-new-tokens", "12", .. Named(_prompts)]);

        Assert.Equal((0, expected), (plain.Exit, plain.Output));
        Assert.StartsWith("[3 prompts, 36 tokens, ", plain.Error, StringComparison.Ordinal);
        string label = Tool.Run(["run", "--max-new-tokens", "1", "--prompt", "a\nb", "--prompt", new string('x', 100)]).Output;
        Assert.Contains("[1] a b" + end, label, StringComparison.Ordinal);
        Assert.Contains($"[2] {new string('x', 72)}...{end}", label, StringComparison.Ordinal);
    }

    [Fact]
    public void A_budget_is_for_all_prompts_and_counts_what_they_share_once()
    {
        string[] prompts = Long("And the king said", "And the people wept", "And it came to pass");
        string[] run = ["run", "--max-new-tokens", "300", .. Named(prompts), "--memory-budget"];
        string refused = Tool.Refused(1, "E001", [.. run, "2MiB"]);
        string enough = AtLeast().Match(refused).Groups[1].Value;
        JsonElement fits = Tool.Json([.. run, enough]);

        Assert.All(Runs(fits), r => Assert.Equal(300, r.Ints("tokens").Length));
        JsonElement cache = fits.GetProperty("cache");
        long bytes = long.Parse(enough, CultureInfo.InvariantCulture);
        Assert.InRange(cache.Long("allocated_bytes"), 2L << 20, bytes);
        Assert.True(bytes < 2 * cache.Long("allocated_bytes"));
    }

    [Fact]
    public void Prompts_share_with_the_one_before_them_that_is_most_alike()
    {
        SharedPrefixes prompts = new([[1, 2, 3, 4, 5], [9, 9], [1, 2, 3, 7], [1, 2, 3, 7, 8], [1, 2, 3, 4, 5], [1]], 1);
        Assert.Equal([0, 0, 3, 3, 4, 0], Enumerable.Range(0, 6).Select(prompts.Tokens));
        Assert.Equal([2, 3, 4], prompts.Heirs(0));
        Assert.Empty(prompts.Heirs(2));
        Assert.Equal([0, 0, 2, 2, 4, 0], Enumerable.Range(0, 6).Select(new SharedPrefixes([.. Enumerable.Range(0, 6).Select(prompts.Prompt)], 2).Tokens));
        Assert.Equal(12, prompts.StepTokens(512));
        Assert.Equal(8, prompts.StepTokens(8));
        // Pages of one token: all shared pages, except the one before the first different token, are counted once.
        Assert.Equal(22 + 6 - (2 + 2 + 3), prompts.Room([1, 1, 1, 1, 1, 1], 1));
    }

    [Theory]
    [InlineData("run", "--prompt", "a", "--prompt", "")]
    [InlineData("run", "--prompt", "a", "b")]
    [InlineData("run", "--prompt", "a", "--prompt")]
    [InlineData("run", "--prompt", "a", "--prompt", "b", "--prompt-tokens", "1")]
    [InlineData("run", "--prompt", "a", "--prompt", "b", "--prompt-file", "f")]
    [InlineData("run", "--prompt-tokens", "1", "--prompt-tokens", "2")]
    [InlineData("run", "--prompt", "a", "--prompt", "b", "--max-new-tokens", "4096")]
    public void What_is_wrong_with_prompts_is_one_line(params string[] args) => Tool.Refused(2, "E003", args);

    [Fact]
    public void There_is_an_end_to_how_many_prompts_go_at_once()
    {
        string line = Tool.Refused(2, "E003", ["run", .. Named([.. Enumerable.Repeat("a", 513)])]);
        Assert.Contains("at most 512 at once, got 513", line, StringComparison.Ordinal);
    }

    private static JsonElement Together(string[] prompts, params string[] options) => Tool.Json(["run", .. Named(prompts), .. options]);

    private static JsonElement[] HoldToAlone(string[] prompts, JsonElement together, params string[] options)
    {
        JsonElement[] alone = [.. prompts.Select(p => Tool.Json(["run", "--prompt", p, .. options]))];
        foreach ((JsonElement one, JsonElement run) in alone.Zip(Runs(together)))
        {
            Assert.Equal(one.Ints("prompt_tokens"), run.Ints("prompt_tokens"));
            Assert.Equal(one.Ints("tokens"), run.Ints("tokens"));
            Assert.Equal(one.Text("text"), run.Text("text"));
        }

        return alone;
    }

    private static JsonElement[] Runs(JsonElement run) => [.. run.GetProperty("runs").EnumerateArray()];

    private static string[] Named(string[] prompts) => [.. prompts.SelectMany(p => (string[])["--prompt", p])];

    private static long Pages(JsonElement cache) => cache.GetProperty("pages").Long("open") + cache.GetProperty("pages").Long("sealed");

    private static string[] Long(params string[] ends)
    {
        string start = string.Concat(Enumerable.Repeat("In the beginning God created the heaven and the earth. ", 45));
        return [.. ends.Select(e => start + e)];
    }

    [GeneratedRegex("at least ([0-9]+) bytes")]
    private static partial Regex AtLeast();
}
