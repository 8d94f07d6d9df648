using System.Reflection;
using System.Text.RegularExpressions;
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using Xunit.Abstractions;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Every portable kernel compiles to PTX, with everything in registers and shared memory. No GPU takes part.</summary>
public sealed class PtxTests(ITestOutputHelper output)
{
    public static TheoryData<string> Architectures => new("sm_80", "sm_90");

    [Theory]
    [MemberData(nameof(Architectures))]
    public void Every_kernel_compiles_without_local_memory(string architecture)
    {
        CudaArchitecture target = architecture == "sm_80" ? CudaArchitecture.SM_80 : CudaArchitecture.SM_90;
        using Context context = Context.Create(builder => builder.Cuda().Optimize(OptimizationLevel.O2));
        var capabilities = new CudaCapabilityContext(target);
        using var backend = new PTXBackend(context, capabilities, target, new CudaInstructionSet(8, 4), null);
        var failures = new List<string>();
        int kernels = 0;
        foreach ((string name, MethodInfo method) in PortableKernels.All())
        {
            string ptx = Compile(backend, method);
            kernels++;
            Check(failures, name, ptx, ptx.Contains(".visible .entry", StringComparison.Ordinal), "has no entry");
            Check(failures, name, ptx, Regex.IsMatch(ptx, @"\.target\s+sm_[89]0"), "names no target");
            Check(failures, name, ptx, !ptx.Contains(".local", StringComparison.Ordinal), "uses local memory");
            Check(failures, name, ptx, !Regex.IsMatch(ptx, @"\b(shfl|vote|activemask)"), "uses warp operations");
            Check(failures, name, ptx, !Regex.IsMatch(ptx, @"\.f(16|64)\b"), "computes in another precision than binary32");
            Check(failures, name, ptx, !ptx.Contains("div.approx", StringComparison.Ordinal), "divides inexactly");
            output.WriteLine($"{name}: {ptx.Split('\n').Length} lines, {Regex.Count(ptx, @"bar\.sync")} barriers, {Regex.Count(ptx, @"\bcall\b")} calls");
        }

        output.WriteLine($"{kernels} kernels for {architecture}");
        Assert.Equal(PortableKernels.All().Select(k => k.Name).Distinct().Count(), kernels);
        Assert.Empty(failures);
    }

    [Fact]
    public void Kernels_with_groups_of_values_synchronise_them()
    {
        using Context context = Context.Create(builder => builder.Cuda().Optimize(OptimizationLevel.O2));
        using var backend = new PTXBackend(
            context, new CudaCapabilityContext(CudaArchitecture.SM_90), CudaArchitecture.SM_90, new CudaInstructionSet(8, 4), null);
        Assert.Contains("bar.sync", Compile(backend, PortableKernels.Attend(PageFormat.I8, PageFormat.I8, 4)), StringComparison.Ordinal);
        Assert.Matches(@"\b(atom|red)\..*min", Compile(backend, PortableKernels.Append(PageFormat.F16, PageFormat.F16)));
    }

    private static string Compile(PTXBackend backend, MethodInfo method) => ((PTXCompiledKernel)backend.Compile(
        EntryPointDescription.FromExplicitlyGroupedKernel(method), default(KernelSpecialization))).PTXAssembly;

    private static void Check(List<string> failures, string name, string ptx, bool holds, string what)
    {
        if (!holds)
        {
            failures.Add($"{name} {what} ({ptx.Length} characters)");
        }
    }
}
