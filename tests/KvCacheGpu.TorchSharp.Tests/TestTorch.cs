using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace KvCacheGpu.TorchSharp.Tests;

/// <summary>A fact that needs libtorch; skipped, with the reason, where it does not load.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class TorchFactAttribute : FactAttribute
{
    public TorchFactAttribute() => Skip = TestTorch.Skip;
}

/// <summary>A theory that needs libtorch; skipped, with the reason, where it does not load.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class TorchTheoryAttribute : TheoryAttribute
{
    public TorchTheoryAttribute() => Skip = TestTorch.Skip;
}

/// <summary>What the tests have in common: if libtorch loads, made-up tensors, and attention as torch computes it.</summary>
internal static class TestTorch
{
    /// <summary>The reason why tests are skipped; null if they are not. Set <c>KVCACHE_TEST_TORCH</c>, as <c>.ci/run</c> does, to be told by a failure instead.</summary>
    public static string? Skip { get; } = WhyNot();

    /// <summary>A tensor of numbers around 0; the same seed makes the same ones.</summary>
    public static Tensor Random(int seed, ScalarType type, params long[] shape)
    {
        using var generator = new Generator((ulong)seed);
        using Tensor floats = randn(shape, generator: generator);
        return floats.to(type);
    }

    /// <summary>
    /// Torch's own attention, <c>[batch, heads, tokens, width]</c> in float32: the queries are the last tokens, each sees itself and all before it, and KV heads are
    /// repeated for their query heads.
    /// </summary>
    public static Tensor Expected(Tensor queries, Tensor keys, Tensor values, int window = 0)
    {
        using DisposeScope scope = NewDisposeScope();
        (long tokens, long all, long group) = (queries.size(2), keys.size(2), queries.size(1) / keys.size(1));
        Tensor mask = ones(tokens, all, ScalarType.Bool).tril(all - tokens);
        if (window > 0)
        {
            mask = mask.logical_and(ones(tokens, all, ScalarType.Bool).triu(all - tokens - window + 1));
        }

        return nn.functional.scaled_dot_product_attention(
            queries.to(ScalarType.Float32), keys.to(ScalarType.Float32).repeat_interleave(group, 1), values.to(ScalarType.Float32).repeat_interleave(group, 1), mask)
            .MoveToOuterDisposeScope();
    }

    /// <summary>The difference of two tensors as a part of the second one's norm.</summary>
    public static float Error(Tensor actual, Tensor expected)
    {
        using DisposeScope scope = NewDisposeScope();
        Assert.Equal(expected.shape, actual.shape);
        return (actual.to(ScalarType.Float32) - expected).norm().item<float>() / expected.norm().item<float>();
    }

    /// <summary>A cache on the host whose pages keep every bit of binary32.</summary>
    public static KvCache ExactCache(KvGeometry geometry) => new(
        geometry, new KvCacheOptions { Device = "cpu", KeyFormat = PageFormat.F32, ValueFormat = PageFormat.F32, FullPrecision = PageFormat.F32, MaxTokens = 512 });

    private static string? WhyNot()
    {
        try
        {
            using Tensor one = ones(1);
            return null;
        }
        catch (Exception e) when (Environment.GetEnvironmentVariable("KVCACHE_TEST_TORCH") is not { Length: > 0 })
        {
            string library = Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeInformation.RuntimeIdentifier, "native", "libLibTorchSharp.so");
            return $"libtorch does not load: {(File.Exists(library) ? LoadError(library) : e.Message.Split('\n')[0])} (.ci/torch makes it load on Debian 12)";
        }
    }

    // TorchSharp tells where it looked; the loader tells what is missing.
    private static string LoadError(string library)
    {
        try
        {
            NativeLibrary.Free(NativeLibrary.Load(library));
            return "it loads alone, but not in this process";
        }
        catch (DllNotFoundException e)
        {
            return e.Message.Split('\n').LastOrDefault(line => line.Contains("GLIBC", StringComparison.Ordinal)) ?? e.Message.Split('\n')[0];
        }
    }
}
