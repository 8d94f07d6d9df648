using System.Text.Json;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Cli.Tests;

/// <summary><c>kvcache bench</c> on what every machine has, by its smallest rows; no time is judged.</summary>
public sealed class BenchTests
{
    private const string Row = "name string, milliseconds number, bytes number, gbps number, of_copy number, of_peak number?, target number?, target_of string?";

    [Theory]
    [InlineData("append 1 ")]
    [InlineData("attend 1 x 1k d64 GQA 4 I8")]
    public void Json_has_each_kernel_as_a_fraction_of_the_devices_copy(string only)
    {
        JsonElement bench = Checked(Tool.Json("bench", "--device", "ilgpu-cpu", "--only", only));
        Assert.Equal(("ilgpu-cpu", "portable (ilgpu-cpu)"), (bench.Text("device"), bench.Text("tier")));
        Assert.True(bench.GetProperty("emulated").GetBoolean());
        Assert.Equal(JsonValueKind.Null, bench.GetProperty("mma_tflops").ValueKind);
        Assert.Contains("emulator", bench.Text("mma_note"), StringComparison.Ordinal);
        JsonElement kernel = Assert.Single(bench.GetProperty("kernels").EnumerateArray());
        Assert.StartsWith(only, kernel.Text("name"), StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Null, kernel.GetProperty("of_peak").ValueKind);
        Assert.Equal(kernel.GetProperty("gbps").GetDouble() / bench.GetProperty("copy_gbps").GetDouble(), kernel.GetProperty("of_copy").GetDouble(), 9);
        Assert.Equal(kernel.GetProperty("bytes").GetInt64() / kernel.GetProperty("milliseconds").GetDouble() / 1e6, kernel.GetProperty("gbps").GetDouble(), 6);
        Assert.Equal(0, bench.GetProperty("dropped").GetArrayLength());
    }

    [Fact]
    public void What_no_time_is_left_for_is_named()
    {
        JsonElement bench = Checked(Tool.Json("bench", "--device", "cpu", "--seconds", "0", "--only", "encode"));
        Assert.Equal(0, bench.GetProperty("kernels").GetArrayLength());
        Assert.All(bench.GetProperty("dropped").EnumerateArray(), name => Assert.StartsWith("encode", name.GetString(), StringComparison.Ordinal));
        Assert.True(bench.GetProperty("dropped").GetArrayLength() > 1);
    }

    [Fact]
    public void People_get_a_table()
    {
        Tool bench = Tool.Run("bench", "--device", "cpu", "--only", "append 1 tokens");
        Assert.Equal((0, string.Empty), (bench.Exit, bench.Error));
        Assert.Matches("copy [0-9.]+ GB/s", bench.Output);
        Assert.Contains("tensor cores not measured: the host's processor has no tensor cores", bench.Output, StringComparison.Ordinal);
        Assert.Matches(@"append 1 tokens x 8 heads d128 F16 +\| +[0-9.]+ \| +[0-9.]+ \| +[0-9.]+ %", bench.Output);
        Assert.DoesNotContain("say nothing about a device", bench.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_is_not_here_is_refused_by_the_names_of_those_that_are()
    {
        string refused = Tool.Refused(1, "E009", "bench", "--device", "cuda:15");
        Assert.All(KvDevice.List().Where(d => d.Usable), d => Assert.Contains(d.Id, refused, StringComparison.Ordinal));
        Tool.Refused(2, "E003", "bench", "--device", "tpu");
        Tool.Refused(2, "E003", "bench", "--seconds", "-1");
        Assert.Contains("--only", Tool.Refused(2, "E003", "bench", "--device", "cpu", "--only", "no such row"), StringComparison.Ordinal);
    }

    [CudaFact]
    public async Task A_cuda_device_is_measured_by_its_own_kernels()
    {
        (int exit, string output, string error) = await ProcessTests.Start(TestCuda.ChildVariables(), "bench", "--device", "cuda:0", "--only", "append 1 ", "--json");
        Assert.Equal((0, string.Empty), (exit, error));
        using JsonDocument document = JsonDocument.Parse(output);
        JsonElement bench = Checked(document.RootElement);
        Assert.Equal("cuda (tensor cores)", bench.Text("tier"));
        Assert.Equal(bench.GetProperty("mma_tflops").ValueKind == JsonValueKind.Null, bench.GetProperty("mma_note").ValueKind == JsonValueKind.String);
        Assert.NotEqual(0, bench.GetProperty("kernels").GetArrayLength());
    }

    private static JsonElement Checked(JsonElement bench)
    {
        Schema.Check(
            bench, "device string, name string, tier string, emulated bool, copy_gbps number, mma_tflops number?, mma_note string?, kernels array, dropped array");
        Assert.All(bench.GetProperty("kernels").EnumerateArray(), kernel => Schema.Check(kernel, Row));
        return bench;
    }
}
