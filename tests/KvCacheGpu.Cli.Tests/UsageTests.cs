namespace KvCacheGpu.Cli.Tests;

public sealed class UsageTests
{
    [Theory]
    [InlineData]
    [InlineData("frobnicate")]
    [InlineData("run", "stray")]
    [InlineData("run", "--config")]
    [InlineData("run", "--save", "name")]
    [InlineData("run", "--load", "name")]
    [InlineData("run", "--store", "dir")]
    [InlineData("demo", "--device", "cpu")]
    [InlineData("run", "--prompt", "")]
    [InlineData("run", "--prompt", "a", "--prompt-tokens", "1")]
    [InlineData("run", "--prompt-tokens", "")]
    [InlineData("run", "--prompt-tokens", "1,,2")]
    [InlineData("run", "--prompt-tokens", "1,-2")]
    [InlineData("run", "--prompt-tokens", "1,99999999999")]
    [InlineData("run", "--prompt-tokens", "1024")]
    [InlineData("run", "--max-new-tokens", "0")]
    [InlineData("run", "--max-new-tokens", "4096")]
    [InlineData("run", "--max-new-tokens", "1.5")]
    [InlineData("run", "--temperature", "-0.5")]
    [InlineData("run", "--temperature", "NaN")]
    [InlineData("run", "--temperature", "0,5")]
    [InlineData("run", "--seed", "x")]
    [InlineData("run", "--seed", "1", "--seed", "2")]
    [InlineData("run", "--key-format", "q4")]
    [InlineData("run", "--key-format", "v4", "--value-format", "t4")]
    [InlineData("run", "--value-format", "1")]
    [InlineData("run", "--device", "tpu")]
    [InlineData("run", "--device", "cuda:x")]
    [InlineData("run", "--policy", "mru")]
    [InlineData("run", "--policy", "window:0")]
    [InlineData("run", "--policy", "window:")]
    [InlineData("run", "--memory-budget", "0")]
    [InlineData("run", "--memory-budget", "lots")]
    [InlineData("run", "--model", "")]
    [InlineData("plan", "--geometry", "1,1,64")]
    [InlineData("plan", "--context", "16")]
    [InlineData("plan", "--context", "16", "--geometry", "1,1,64", "--model", "x")]
    [InlineData("plan", "--context", "16", "--geometry", "1,1")]
    [InlineData("plan", "--context", "16", "--geometry", "1,0,64")]
    [InlineData("plan", "--context", "16", "--geometry", "1,1,7")]
    [InlineData("plan", "--context", "16", "--geometry", "1,1,577")]
    [InlineData("plan", "--context", "16", "--geometry", "1,1,64", "--page-tokens", "1025")]
    [InlineData("plan", "--context", "0", "--geometry", "1,1,64")]
    [InlineData("plan", "--context", "2000000000", "--geometry", "100000,20000,64")]
    public void What_is_wrong_is_one_line_with_E003_and_exit_2(params string[] args) => Tool.Refused(2, "E003", args);

    [Fact]
    public void Errors_name_the_option_what_it_takes_and_what_it_got()
    {
        Assert.Equal(
            "E003: --key-format: expected f32, f16, bf16, i8, t4, t3, t2, v4, v3, v2, fp8, q8_0, q4_0, got \"q4\"; see kvcache run --help", Tool.Refused(2, "E003", "run", "--key-format", "q4"));
        Assert.EndsWith("; see kvcache snapshot verify --help", Tool.Refused(2, "E003", "snapshot", "verify", "x", "--sieve", "y"), StringComparison.Ordinal);
        Assert.EndsWith("; see kvcache --help", Tool.Refused(2, "E003", "frobnicate"), StringComparison.Ordinal);
        Assert.Contains("'--sieve'", Tool.Refused(2, "E003", "run", "--sieve", "x"), StringComparison.Ordinal);
        Assert.Contains("at most 4095", Tool.Refused(2, "E003", "run", "--max-new-tokens", "5000"), StringComparison.Ordinal);
        string longPrompt = string.Join(',', Enumerable.Repeat("5", 4096));
        Assert.Contains("context is 4096), got 4096", Tool.Refused(2, "E003", "run", "--prompt-tokens", longPrompt), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("run", "--model", "no-such-folder")]
    [InlineData("run", "--prompt-file", "no-such-file")]
    [InlineData("run", "--prompt-file", "/")]
    [InlineData("plan", "--context", "16", "--model", "no-such-folder")]
    public void What_is_not_there_is_E002_and_exit_2(params string[] args) => Tool.Refused(2, "E002", args);

    [Fact]
    public void A_file_that_is_not_UTF8_is_refused()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        string file = Path.Combine(folder, "bytes\nwith a line");
        File.WriteAllBytes(file, [0xff, 0xfe, 0xfd]);
        Tool.Refused(2, "E003", "run", "--prompt-file", file);
        File.WriteAllBytes(file, []);
        Tool.Refused(2, "E003", "run", "--prompt-file", file);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_damaged_model_is_refused_in_one_line()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        File.WriteAllText(Path.Combine(folder, "config.json"), "{");
        Tool.Refused(2, "E004", "run", "--model", folder);
        Tool.Refused(2, "E004", "plan", "--context", "16", "--model", folder);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_device_that_is_not_here_is_E009_and_exit_1()
    {
        Assert.Contains("kvcache doctor", Tool.Refused(1, "E009", "run", "--device", "cuda:99"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("run", "--help")]
    [InlineData("demo", "--help")]
    [InlineData("doctor", "-h")]
    [InlineData("plan", "--help")]
    [InlineData("--version")]
    public void Help_and_version_succeed(params string[] args)
    {
        Tool tool = Tool.Run(args);
        Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
        Assert.NotEqual(string.Empty, tool.Output);
    }
}
