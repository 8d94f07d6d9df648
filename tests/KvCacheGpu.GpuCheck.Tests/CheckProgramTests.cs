using System.Text.Json;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>The program in this process: exit codes, and the report.</summary>
public sealed class CheckProgramTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("gpu-check-").FullName;
    private readonly StringWriter _console = new();
    private readonly StringWriter _errors = new();

    [Fact]
    public void Without_a_gpu_it_runs_a_subset_on_the_emulator_and_says_so_in_the_report()
    {
        Assert.Equal(0, Run("--device", "ilgpu-cpu"));
        JsonElement report = Report();
        AssertIsReport(report);
        Assert.False(report.GetProperty("hasGpu").GetBoolean());
        Assert.True(report.GetProperty("passed").GetBoolean());
        Assert.Contains("no GPU", report.GetProperty("note").GetString(), StringComparison.Ordinal);
        Assert.Contains("no GPU", _console.ToString(), StringComparison.Ordinal);
        JsonElement check = Assert.Single(report.GetProperty("checks").EnumerateArray());
        Assert.Equal("ilgpu-cpu", check.GetProperty("id").GetString());
        Assert.True(check.GetProperty("isSubset").GetBoolean());
        Assert.True(check.GetProperty("copyGBps").GetDouble() > 0);
        Assert.Equal(0, check.GetProperty("mmaTflops").GetDouble());
        Assert.Contains("emulator", check.GetProperty("mmaNote").GetString(), StringComparison.Ordinal);
        string[] names = [.. check.GetProperty("kernels").EnumerateArray().Select(k => k.GetProperty("name").GetString()!)];
        Assert.All(["attend", "prefill", "append", "encode", "transcode"], kind => Assert.Contains(names, n => n.StartsWith(kind, StringComparison.Ordinal)));
        Assert.Equal(0, check.GetProperty("dropped").GetArrayLength());
    }

    [Fact]
    public void Measurements_that_no_time_is_left_for_are_named()
    {
        Assert.Equal(0, Run("--device", "ilgpu-cpu", "--only", "Words_loaded", "--bench-seconds", "0"));
        JsonElement check = Report().GetProperty("checks")[0];
        AssertIsReport(Report());
        Assert.Equal(0, check.GetProperty("kernels").GetArrayLength());
        string[] dropped = [.. check.GetProperty("dropped").EnumerateArray().Select(d => d.GetString()!)];
        Assert.Contains(dropped, d => d.StartsWith("encode", StringComparison.Ordinal));
        Assert.Contains($"no time was left for {dropped.Length} of {dropped.Length} measurements: {dropped[0]}", _console.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Every_check_of_both_suites_takes_part_and_compares_with_the_oracle()
    {
        int exit = RunOn(Perturbation.None, "--subset", "--no-bench");
        Assert.True(exit == 0, _console.ToString());
        JsonElement[] groups = [.. Report().GetProperty("checks")[0].GetProperty("groups").EnumerateArray()];
        Assert.True(groups.Length >= 33);
        Assert.All(groups, g => Assert.True(g.GetProperty("cases").GetInt32() > 0));
        JsonElement grid = groups.Single(g => g.GetProperty("name").GetString() == "AttentionSuite.Attention_equals_the_oracle_on_the_decoded_pages");
        Assert.InRange(grid.GetProperty("worstError").GetDouble(), 1e-12, 1e-5);
        Assert.Equal(1e-5, grid.GetProperty("bound").GetDouble());
    }

    [Theory]
    [InlineData((int)Perturbation.Output, "Attention_equals_the_oracle_on_the_decoded_pages")]
    [InlineData((int)Perturbation.Encoding, "Codes_scales_and_digests_are_the_oracles_bit_for_bit")]
    [InlineData((int)Perturbation.Silence, "An_element_that_is_not_finite_once_stored_is_named")]
    public void A_broken_kernel_makes_it_fail_and_the_report_names_the_check(int fault, string check)
    {
        Assert.Equal(0, RunOn(Perturbation.None, "--subset", "--no-bench", "--only", check));
        Assert.Equal(1, RunOn((Perturbation)fault, "--subset", "--no-bench", "--only", check));
        JsonElement report = Report();
        AssertIsReport(report);
        Assert.False(report.GetProperty("passed").GetBoolean());
        JsonElement group = Assert.Single(report.GetProperty("checks")[0].GetProperty("groups").EnumerateArray());
        Assert.EndsWith(check, group.GetProperty("name").GetString(), StringComparison.Ordinal);
        Assert.NotEqual(0, group.GetProperty("failures").GetArrayLength());
        Assert.All(group.GetProperty("failures").EnumerateArray(), f => Assert.NotEmpty(f.GetProperty("message").GetString()!));
        Assert.Contains("FAIL", _console.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_a_measurement_cannot_run_fails_the_check()
    {
        var device = new KvDeviceInfo("broken", KvDeviceKind.Emulator, "broken", 1, true, string.Empty);
        using var target = new CheckTarget(
            device, (shape, bytes) => bytes < 1 << 17 ? new PerturbedTier(shape, bytes, Perturbation.None) : throw new InvalidOperationException("no memory"));
        Assert.Equal(1, CheckProgram.Run([target], Options("--only", "Words_loaded"), _console));
        Assert.Contains("no memory", File.ReadAllText(ReportFile), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--what")]
    [InlineData("--device")]
    [InlineData("--device", "gpu")]
    [InlineData("--bench-seconds", "soon")]
    [InlineData("--gate", "folder")]
    [InlineData("--device", "cuda:97")]
    public void Misuse_exits_with_two_and_says_what_is_expected(params string[] args)
    {
        Assert.Equal(2, CheckProgram.Run(args, _console, _errors));
        Assert.NotEmpty(_errors.ToString());
    }

    /// <summary>Of every kernel <c>tools/ptx-gate</c> writes it.</summary>
    [Fact]
    public void Ptx_of_the_kernels_chosen_is_written_for_both_architectures()
    {
        Assert.Equal(0, Run("--ptx", _folder, "--only", "F16-F16"));
        foreach (string architecture in OfflinePtx.Architectures)
        {
            string[] files = Directory.GetFiles(Path.Combine(_folder, architecture), "*.ptx");
            Assert.Equal(
                OfflinePtx.Kernels.Select(k => k.Name).Where(n => CheckProgram.IsGated(n) && n.Contains("F16-F16", StringComparison.Ordinal)).Order(StringComparer.Ordinal),
                files.Select(f => Path.GetFileNameWithoutExtension(f)).Order(StringComparer.Ordinal));
            Assert.Contains(files, f => f.EndsWith("tensor8-F16-F16-d128-p64.ptx", StringComparison.Ordinal));
            Assert.All(files, f => Assert.Contains(".visible .entry", File.ReadAllText(f), StringComparison.Ordinal));
        }
    }

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
        _console.Dispose();
        _errors.Dispose();
    }

    private string ReportFile => Path.Combine(_folder, "report.json");

    private int Run(params string[] args) => CheckProgram.Run([.. args, "--out", ReportFile], _console, _errors);

    private int RunOn(Perturbation fault, params string[] args)
    {
        var device = new KvDeviceInfo("reference", KvDeviceKind.Emulator, "reference", 1, true, string.Empty);
        using var target = new CheckTarget(device, (shape, bytes) => new PerturbedTier(shape, bytes, fault));
        return CheckProgram.Run([target], Options(args), _console);
    }

    private CheckOptions Options(params string[] args) => CheckOptions.Parse([.. args, "--out", ReportFile])!;

    private JsonElement Report()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(ReportFile));
        return document.RootElement.Clone();
    }

    // The shape that readers of reports rely on: every property there, of its type, and no other.
    private static void AssertIsReport(JsonElement report)
    {
        AssertShape(report, "schema:n utc:s machine:s hasGpu:b note:s passed:b devices:a checks:a");
        Assert.Equal(2, report.GetProperty("schema").GetInt32());
        Assert.All(report.GetProperty("devices").EnumerateArray(), d => AssertShape(d, "id:s name:s memoryBytes:n usable:b reason:s"));
        foreach (JsonElement check in report.GetProperty("checks").EnumerateArray())
        {
            AssertShape(
                check,
                "id:s name:s tier:s driver:s computeCapability:s multiprocessors:n memoryBytes:n isSubset:b seconds:n copyGBps:n mmaTflops:n mmaNote:s groups:a kernels:a dropped:a");
            Assert.All(check.GetProperty("kernels").EnumerateArray(), k => AssertShape(k, "name:s milliseconds:n bytes:n gBps:n ofCopy:n tflops:n ofPeak:n target:n of:s"));
            foreach (JsonElement group in check.GetProperty("groups").EnumerateArray())
            {
                AssertShape(group, "name:s cases:n worstError:n bound:n failures:a");
                Assert.All(group.GetProperty("failures").EnumerateArray(), f => AssertShape(f, "case:s message:s"));
            }
        }
    }

    private static void AssertShape(JsonElement element, string shape)
    {
        string got = string.Join(' ', element.EnumerateObject().Select(p => $"{p.Name}:{Letter(p.Value.ValueKind)}"));
        Assert.Equal(shape, got);
    }

    private static char Letter(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Number => 'n',
        JsonValueKind.String => 's',
        JsonValueKind.Array => 'a',
        JsonValueKind.True or JsonValueKind.False => 'b',
        _ => '?',
    };
}
