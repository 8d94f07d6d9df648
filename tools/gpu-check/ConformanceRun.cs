using System.Globalization;
using System.Reflection;
using ILGPU;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;
using Xunit;
using Xunit.Sdk;

namespace KvCacheGpu.GpuCheck;

/// <summary>
/// Runs the suites that the test projects run, by their attributes and without xunit's runner, which does not work from a single file.
/// </summary>
internal static class ConformanceRun
{
    private const int MostFailures = 20;

    // Of a theory's cases a subset takes the first and every sixth after it: strides of 2, 3 and 4 in the case lists all turn.
    private const int SubsetStride = 6;

    /// <summary>One group for each check of each suite.</summary>
    public static IEnumerable<GroupResult> Run(CheckTarget target, CheckOptions options)
    {
        TargetUnderTest.Target = target;
        bool isSubset = options.IsSubset || target.IsEmulator;
        TargetUnderTest.CudaCases = options.IsFull ? CudaGrid.All : isSubset ? CudaGrid.Few : options.IsCommon ? CudaGrid.Common : CudaGrid.Pairs;
        Type[] suites =
        [
            typeof(AttentionSuite), typeof(PageSuite), typeof(KeyScaleSuite), typeof(TensorSuite), typeof(EngineSuite), .. target.Accelerator is null ? [] : new[] { typeof(HostSuite), typeof(GroupSuite) },
            .. target.Accelerator is CudaAccelerator ? new[] { typeof(ContextSuite), typeof(GraphSuite), typeof(GroupGraphSuite), typeof(MmaSuite) } : [],
            .. target.Accelerator is { } accelerator && CudaTier.HasTensorCores(accelerator) ? new[] { typeof(CudaSuite), typeof(PortableSuite) } : [],
        ];
        foreach (Type suite in suites)
        {
            IEnumerable<MethodInfo> checks = suite.GetMethods()
                .Where(m => m.GetCustomAttribute<FactAttribute>() is not null && IsChosen($"{suite.Name}.{m.Name}", options))
                .OrderBy(m => m.Name, StringComparer.Ordinal);
            foreach (MethodInfo check in checks)
            {
                yield return RunGroup(suite, check, Cases(check, isSubset).Where(arguments => Describe(arguments).Contains(options.Cases, StringComparison.OrdinalIgnoreCase)));
            }
        }
    }

    private static bool IsChosen(string check, CheckOptions options) =>
        check.Contains(options.Only, StringComparison.OrdinalIgnoreCase) && (options.Except.Length == 0 || !check.Contains(options.Except, StringComparison.OrdinalIgnoreCase));

    private static GroupResult RunGroup(Type suite, MethodInfo check, IEnumerable<object?[]> chosen)
    {
        var worst = new WorstError();
        var failures = new List<Failure>();
        int cases = 0;
        foreach (object?[] arguments in chosen)
        {
            cases++;
            WorstError mine = WorstError.Collect();
            string? message = RunCase(suite, check, arguments);

            // What ILGPU keeps of the kernels that it has compiled, gigabytes in the end, slows every collection down.
            TargetUnderTest.Target.Accelerator?.Context.ClearCache(ClearCacheMode.Everything);
            worst.Take(mine.Error, mine.Bound);
            if (message is not null && failures.Count < MostFailures)
            {
                failures.Add(new Failure(Describe(arguments), message));
            }
        }

        return new GroupResult($"{suite.Name}.{check.Name}", cases, worst.Error, worst.Bound, failures);
    }

    private static IEnumerable<object?[]> Cases(MethodInfo check, bool isSubset)
    {
        DataAttribute[] sources = [.. check.GetCustomAttributes<DataAttribute>()];
        if (sources.Length == 0)
        {
            return [[]];
        }

        // An emulator's grid is chosen case by case already, and so are a few cases of tensor cores.
        bool isChosen = check.Name == nameof(CudaSuite.Tensor_cores_equal_the_oracle_on_the_decoded_pages)
            || (TargetUnderTest.Target.IsEmulator && check.Name == nameof(AttentionSuite.Attention_equals_the_oracle_on_the_decoded_pages));
        bool isThinned = isSubset && !isChosen;
        return sources.SelectMany(s => s.GetData(check)).Where((_, i) => !isThinned || i % SubsetStride == 0);
    }

    // Null where the case holds.
    private static string? RunCase(Type suite, MethodInfo check, object?[] arguments)
    {
        try
        {
            object instance = Activator.CreateInstance(suite)!;
            (check.Invoke(instance, arguments) as Task)?.GetAwaiter().GetResult();
            return null;
        }
        catch (TargetInvocationException e)
        {
            return Message(e.InnerException ?? e);
        }
#pragma warning disable CA1031 // Whatever a kernel or a driver throws is a finding, not the end of the run.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return Message(e);
        }
    }

    private static string Message(Exception e) =>
        e is XunitException ? e.Message : $"{e.GetType().Name}: {e.Message}";

    private static string Describe(object?[] arguments) =>
        string.Join(", ", arguments.Select(a => Convert.ToString(a, CultureInfo.InvariantCulture)));
}
