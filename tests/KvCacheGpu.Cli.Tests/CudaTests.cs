using System.Text.Json;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Cli.Tests;

/// <summary>The tool gives the same results on a CUDA device as on the host.</summary>
public sealed class CudaTests
{
    [CudaFact]
    public async Task Full_precision_generates_the_tokens_of_the_cpu()
    {
        string[] args = ["run", "--prompt", "And God said, Let there be", "--max-new-tokens", "12", "--key-format", "f32", "--value-format", "f32"];
        JsonElement cuda = await OnCuda(args);
        Assert.Equal("cuda:0", cuda.Text("device"));
        Assert.Equal(Tool.Json([.. args, "--device", "cpu"]).Ints("tokens"), cuda.Ints("tokens"));
    }

    [CudaFact]
    public async Task Pages_sealed_in_four_bits_generate_the_tokens_of_the_cpu()
    {
        string prompt = string.Join(',', Enumerable.Repeat("808,75,260,112,75", 116));
        string[] args = ["run", "--prompt-tokens", prompt, "--max-new-tokens", "6", "--key-format", "t4"];
        JsonElement cuda = await OnCuda(args);
        JsonElement cpu = Tool.Json([.. args, "--device", "cpu"]);
        Assert.Equal(cpu.Ints("tokens"), cuda.Ints("tokens"));
        JsonElement pages = cuda.GetProperty("cache").GetProperty("pages");
        Assert.True(pages.Long("sealed") > 0);
        Assert.Equal(cpu.GetProperty("cache").GetProperty("pages").GetRawText(), pages.GetRawText());
    }

    [CudaFact]
    public async Task Doctor_says_what_each_driver_offers()
    {
        IReadOnlyDictionary<string, string> variables = TestCuda.ChildVariables("SIMCUDA_DEVICES=2");
        (int exit, string output, string error) = await ProcessTests.Start(variables, "doctor", "--json");
        Assert.Equal((0, string.Empty), (exit, error));
        using JsonDocument document = JsonDocument.Parse(output);
        JsonElement[] devices = [.. document.RootElement.GetProperty("devices").EnumerateArray().Where(d => d.Text("kind") == "cuda")];
        Assert.Equal("cuda:0", devices[0].Text("id"));
        foreach (JsonElement device in devices)
        {
            JsonElement cuda = Schema.Check(device.GetProperty("cuda"), "driver_version string, stream_calls bool, primary_context_active bool, memory_order_kept bool, tensor_cores object");
            JsonElement tensors = Schema.Check(cuda.GetProperty("tensor_cores"), "pairs array, head_widths array, page_tokens array");
            Assert.Contains("f16/f16", tensors.GetProperty("pairs").EnumerateArray().Select(pair => pair.GetString()));
            Assert.Matches("^[0-9]+[.][0-9]+$", cuda.Text("driver_version"));
            Assert.True(cuda.GetProperty("stream_calls").GetBoolean() && cuda.GetProperty("memory_order_kept").GetBoolean());

            // Looking makes no context.
            Assert.False(cuda.GetProperty("primary_context_active").GetBoolean());
        }

        (_, string shown, _) = await ProcessTests.Start(variables, "doctor");
        Assert.Contains("cuda:0: driver for CUDA ", shown, StringComparison.Ordinal);
        Assert.Contains("cuda:0: attention on tensor cores for f16/f16", shown, StringComparison.Ordinal);
        Assert.Contains("streams and contexts found; primary context not active in this process", shown, StringComparison.Ordinal);
    }

    private static async Task<JsonElement> OnCuda(string[] args)
    {
        (int exit, string output, string error) = await ProcessTests.Start(TestCuda.ChildVariables(), [.. args, "--device", "cuda:0", "--json"]);
        Assert.Equal((0, string.Empty), (exit, error));
        using JsonDocument document = JsonDocument.Parse(output);
        return document.RootElement.Clone();
    }
}
