using System.Reflection;
using System.Text.RegularExpressions;
using ILGPU.Runtime;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Every kernel compiles to PTX, with everything in registers and shared memory; the portable ones without what one backend alone has. No GPU takes part.</summary>
public sealed class PtxTests(ITestOutputHelper output)
{
    public static TheoryData<string> Architectures => [.. OfflinePtx.Architectures];

    [Theory]
    [MemberData(nameof(Architectures))]
    public void Every_kernel_compiles_without_local_memory(string architecture)
    {
        using var compiler = new OfflinePtx(architecture);
        var failures = new List<string>();
        int kernels = 0;
        foreach ((string name, MethodInfo method) in OfflinePtx.Portable)
        {
            string ptx = compiler.Compile(method);
            kernels++;
            Check(failures, name, ptx, ptx.Contains(".visible .entry", StringComparison.Ordinal), "has no entry");
            Check(failures, name, ptx, Regex.IsMatch(ptx, @"\.target\s+sm_[89]0"), "names no target");
            Check(failures, name, ptx, !ptx.Contains("div.approx", StringComparison.Ordinal), "divides inexactly");
            Check(failures, name, ptx, !ptx.Contains(".local", StringComparison.Ordinal), "uses local memory");
            Check(failures, name, ptx, !Regex.IsMatch(ptx, @"\b(shfl|vote|activemask)"), "uses warp operations");
            Check(failures, name, ptx, !Regex.IsMatch(ptx, @"\.f(16|64)\b"), "computes in another precision than binary32");
            output.WriteLine($"{name}: {ptx.Split('\n').Length} lines, {Regex.Count(ptx, @"bar\.sync")} barriers, {Regex.Count(ptx, @"\bcall\b")} calls");
        }

        output.WriteLine($"{kernels} kernels for {architecture}");
        Assert.Equal(OfflinePtx.Portable.Select(k => k.Name).Distinct().Count(), kernels);
        Assert.Empty(failures);
    }

    /// <summary>The gate compiles each kernel once. The numbers in names count on from kernel to kernel.</summary>
    [Theory]
    [InlineData("scatter")]
    [InlineData("transcode-F16-V4")]
    [InlineData("keys-warp-BF16-I8")]
    [InlineData("tensor8-F16-F16-d64-p64")]
    [InlineData("tensor4-T4-V4-d64-p64")]
    [InlineData("prefill-exact-I8-I8-d128-p64")]
    public void Architectures_have_the_same_text(string kernel)
    {
        (_, MethodInfo method, KernelSpecialization bounds) = OfflinePtx.Kernels.Single(k => k.Name == kernel);
        string[] texts = [.. OfflinePtx.Architectures.Select(architecture =>
        {
            using var compiler = new OfflinePtx(architecture);
            return Regex.Replace(compiler.Compile(method, bounds), @"_\d+\b", "_");
        })];
        Assert.Equal(texts[0], texts[1]);
    }

    [Fact]
    public void Kernels_with_groups_of_values_synchronise_them()
    {
        using var compiler = new OfflinePtx("sm_90");
        Assert.Contains("bar.sync", compiler.Compile(PortableKernels.Attend(PageFormat.I8, PageFormat.I8, 4)), StringComparison.Ordinal);
        Assert.Matches(@"\b(atom|red)\..*min", compiler.Compile(PortableKernels.Append(PageFormat.F16, PageFormat.F16)));
    }

    private static void Check(List<string> failures, string name, string ptx, bool holds, string what)
    {
        if (!holds)
        {
            failures.Add($"{name} {what} ({ptx.Length} characters)");
        }
    }
}
