using System.Reflection;
using System.Runtime;
using System.Runtime.Loader;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Kernels that a shape needs are compiled before its first token.</summary>
public class WarmUpTests
{
    [Fact]
    public void After_the_warm_up_a_step_compiles_next_to_nothing()
    {
        int cold = Compiled(isWarm: false), warm = Compiled(isWarm: true);
        Assert.True(cold > 60, $"without a warm-up a step compiled {cold} methods");
        Assert.True(warm <= 3, $"after it {warm}, without it {cold}");
    }

    [Fact]
    public void What_loops_over_elements_is_never_compiled_without_optimization()
    {
        // A method without either attribute runs unoptimized until the runtime has counted its calls and compiled it anew: the first second of a process.
        MethodInfo[] slow = [.. typeof(SimdTier).Assembly.GetTypes()
            .SelectMany(type => type.GetMethods(BindingFlags.DeclaredOnly | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance))
            .Where(method => IsVector(method.DeclaringType!) || method.DeclaringType!.GetGenericArguments().Concat(method.GetGenericArguments()).Any(IsVector)
                || method.Name == nameof(ParallelWork.Do) || method.DeclaringType == typeof(PackCodes) || (method.DeclaringType == typeof(HostTensor) && !method.IsStatic))
            .Where(method => method.GetMethodBody()?.GetILAsByteArray()?.Length > 64)
            .Where(method => (method.MethodImplementationFlags & (MethodImplAttributes.AggressiveOptimization | MethodImplAttributes.AggressiveInlining)) == 0)];
        Assert.True(slow.Length == 0, string.Join(", ", slow.Select(method => $"{method.DeclaringType!.Name}.{method.Name}")));

        static bool IsVector(Type type) => type.GetInterfaces().Any(one => one.IsGenericType && one.GetGenericTypeDefinition() == typeof(ISimd<,>));
    }

    // In a load context of its own, where nothing of the kernels is compiled yet.
    private static int Compiled(bool isWarm)
    {
        var context = new OwnCopies();
        Type probe = context.LoadFromAssemblyPath(typeof(WarmUpProbe).Assembly.Location).GetType(typeof(WarmUpProbe).FullName!)!;
        return (int)probe.GetMethod(nameof(WarmUpProbe.Run), BindingFlags.Static | BindingFlags.NonPublic)!.Invoke(null, [isWarm])!;
    }

    private sealed class OwnCopies() : AssemblyLoadContext("own copies")
    {
        protected override Assembly? Load(AssemblyName assemblyName)
        {
            string path = Path.Combine(AppContext.BaseDirectory, $"{assemblyName.Name}.dll");

            // ILGPU takes one resolver for its drivers, and the copy of the library sets one.
            bool isOwn = assemblyName.Name!.StartsWith("KvCacheGpu", StringComparison.Ordinal) || assemblyName.Name.StartsWith("ILGPU", StringComparison.Ordinal);
            return isOwn && File.Exists(path) ? LoadFromAssemblyPath(path) : null;
        }
    }
}

internal static class WarmUpProbe
{
    /// <summary>Kernel methods that this thread compiles for an append, a seal and two attentions.</summary>
    internal static int Run(bool isWarm)
    {
        var geometry = new KvGeometry(1, 4, 1, 64, pageTokens: 16);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F16, PageFormat.I8, PageFormat.V4, 1, 200);
        if (isWarm)
        {
            SimdWarmUp.Run(shape, SimdLevel.Auto.Resolve());
        }

        // What is not a kernel is compiled before, by a tier of other vectors.
        Step(shape, SimdLevel.Scalar);
        long before = JitInfo.GetCompiledMethodCount(currentThread: true);
        Step(shape, SimdLevel.Auto);
        return (int)(JitInfo.GetCompiledMethodCount(currentThread: true) - before);
    }

    private static void Step(KernelShape shape, SimdLevel level)
    {
        using var harness = new TierHarness((s, bytes) => new SimdTier(s, bytes, level, threads: 1), shape, 440);
        HarnessSequence sequence = harness.Add(new SequenceData(shape.Geometry, 2500, seed: 3));
        foreach (int tokens in new[] { 1000, 1000, 480, 12, 1 })
        {
            harness.Begin((sequence, tokens));
            harness.Append(0);
            if (tokens <= 12)
            {
                harness.Attend(0);
                harness.Score(0.9f, 1);
            }

            harness.End();
            harness.Seal(sequence);
        }
    }
}
