using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>What the cases of tensor cores cover.</summary>
public sealed class CudaGridTests
{
    // What a case chooses, each by a name. The first three are not free of each other.
    private static readonly Func<CudaCase, string>[] _choices =
    [
        c => $"{c.Sealed}",
        c => $"{(c.Geometry.KeyWidth, c.Geometry.ValueWidth)}",
        c => $"{c.Geometry.PageTokens}",
        c => $"{c.Geometry.GroupSize}",
        c => $"{c.Chunk}",
        c => $"{c.Batch}",
        c => $"{c.Border}",
        c => $"{Array.IndexOf([0, 1, c.Geometry.PageTokens - 3, (2 * c.Geometry.PageTokens) + 5], c.Window)}",
        c => $"{c.Geometry.LogitSoftCap}",
        c => $"{c.HasHole}",
        c => $"{c.HasStatistics}",
    ];

    [Fact]
    public void Every_two_choices_meet()
    {
        // Chunks of three sequences have groupings and chunks of their own.
        CudaCase[] cases = [.. CudaGrid.Pairs.Where(c => c.Batch != CudaCase.Chunks)];
        HashSet<(string, string, string)> kernels =
        [
            .. from pair in TensorKernels.Pairs
               from width in TensorKernels.Widths
               from tokens in TensorKernels.PageTokens
               where pair.Key.Takes(width.Key) && pair.Value.Takes(width.Value)
               where TensorKernels.Refusal(new KvGeometry(1, 1, 1, width.Key, width.Value, tokens), pair.Key, pair.Value) is null
               select ($"{pair}", $"{width}", $"{tokens}"),
        ];
        string[][] levels = [.. _choices.Select(choice => cases.Select(choice).Distinct().ToArray())];
        Assert.Equal([10, 6, 4, 7, 5, 2, 7, 4, 2, 2, 2], levels.Select(l => l.Length));
        for (int a = 0; a < _choices.Length; a++)
        {
            for (int b = a + 1; b < _choices.Length; b++)
            {
                int expected = (a, b) switch
                {
                    (0, 1) => kernels.Select(k => (k.Item1, k.Item2)).Distinct().Count(),
                    (0, 2) => kernels.Select(k => (k.Item1, k.Item3)).Distinct().Count(),
                    (1, 2) => kernels.Select(k => (k.Item2, k.Item3)).Distinct().Count(),
                    _ => levels[a].Length * levels[b].Length,
                };
                Assert.Equal(expected, cases.Select(c => (_choices[a](c), _choices[b](c))).Distinct().Count());
            }
        }
    }

    /// <summary>Each kernel takes ten seconds of a core to compile for a CPU.</summary>
    [Fact]
    public void The_common_cases_have_every_choice_and_few_kernels()
    {
        Assert.All(_choices, choice => Assert.Equal(CudaGrid.Pairs.Select(choice).Distinct().Order(StringComparer.Ordinal), CudaGrid.Common.Select(choice).Distinct().Order(StringComparer.Ordinal)));
        int kernels = CudaGrid.Common.SelectMany(CudaGrid.KernelsOf).Distinct().Count();
        Assert.True(kernels <= 68, $"{CudaGrid.Common.Count} cases of {CudaGrid.Pairs.Count} with {kernels} kernels of {CudaGrid.Pairs.SelectMany(CudaGrid.KernelsOf).Distinct().Count()}");
    }

    [Fact]
    public void A_few_cases_have_every_pair_of_formats_and_kernels_for_few_and_many_queries()
    {
        CudaCase[] few = [.. CudaGrid.Few];
        Assert.Equal(TensorKernels.Pairs, few.Select(c => c.Sealed));
        Assert.Equal(["eight", "four", "many"], few.Select(c => c.Batch == CudaCase.Chunks ? "many" : c.Geometry.GroupSize <= 4 ? "four" : "eight").Distinct().Order(StringComparer.Ordinal));
    }
}
