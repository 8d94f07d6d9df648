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
        string[][] levels = Meets(CudaGrid.Pairs, [.. Enumerable.Range(0, _choices.Length)]);
        Assert.Equal([10, 6, 4, 7, 5, 2, 7, 4, 2, 2, 2], levels.Select(l => l.Length));
    }

    /// <summary>Where a CPU stands in for the device: every two choices of formats, widths, groupings, chunks and batches meet, every pair of formats has a kernel
    /// for each size of blocks, and every other choice turns up. Each kernel takes ten seconds of a core to compile.</summary>
    [Fact]
    public void In_the_common_cases_every_two_main_choices_meet_with_few_kernels()
    {
        string[][] levels = Meets(CudaGrid.Common, [0, 1, 3, 4, 5]);
        Assert.Equal([10, 6, 7, 5, 2], levels.Select(l => l.Length));
        Assert.Equal(
            TensorKernels.Pairs.SelectMany(pair => new[] { 4, 8, 64 }, (pair, queries) => (pair, queries)),
            CudaGrid.Common.SelectMany(CudaGrid.KernelsOf).Select(k => (pair: (k.Key, k.Value), queries: k.BlockQueries)).Distinct()
                .OrderBy(k => TensorKernels.Pairs.ToList().IndexOf(k.pair)).ThenBy(k => k.queries));
        Assert.All(_choices, choice => Assert.Equal(Chosen(CudaGrid.Pairs, choice), Chosen(CudaGrid.Common, choice)));
        int kernels = CudaGrid.Common.SelectMany(CudaGrid.KernelsOf).Distinct().Count();
        Assert.True(kernels <= 77, $"{CudaGrid.Common.Count} cases of {CudaGrid.Pairs.Count} with {kernels} kernels of {CudaGrid.Pairs.SelectMany(CudaGrid.KernelsOf).Distinct().Count()}");

        string[] Chosen(IEnumerable<CudaCase> cases, Func<CudaCase, string> choice) =>
            [.. cases.Where(c => c.Batch != CudaCase.Chunks).Select(choice).Distinct().Order(StringComparer.Ordinal)];
    }

    // Holds that every two levels of some choices meet that can, and returns the levels.
    private static string[][] Meets(IEnumerable<CudaCase> all, int[] choices)
    {
        // Chunks of three sequences have groupings and chunks of their own.
        CudaCase[] cases = [.. all.Where(c => c.Batch != CudaCase.Chunks)];
        HashSet<(string, string, string)> kernels =
        [
            .. from pair in TensorKernels.Pairs
               from width in TensorKernels.Widths
               from tokens in TensorKernels.PageTokens
               where pair.Key.Takes(width.Key) && pair.Value.Takes(width.Value)
               where TensorKernels.Refusal(new KvGeometry(1, 1, 1, width.Key, width.Value, tokens), pair.Key, pair.Value) is null
               select ($"{pair}", $"{width}", $"{tokens}"),
        ];
        string[][] levels = [.. choices.Select(choice => cases.Select(_choices[choice]).Distinct().ToArray())];
        for (int a = 0; a < choices.Length; a++)
        {
            for (int b = a + 1; b < choices.Length; b++)
            {
                int expected = (choices[a], choices[b]) switch
                {
                    (0, 1) => kernels.Select(k => (k.Item1, k.Item2)).Distinct().Count(),
                    (0, 2) => kernels.Select(k => (k.Item1, k.Item3)).Distinct().Count(),
                    (1, 2) => kernels.Select(k => (k.Item2, k.Item3)).Distinct().Count(),
                    _ => levels[a].Length * levels[b].Length,
                };
                Assert.Equal(expected, cases.Select(c => (_choices[choices[a]](c), _choices[choices[b]](c))).Distinct().Count());
            }
        }

        return levels;
    }

    [Fact]
    public void A_few_cases_have_every_pair_of_formats_and_kernels_for_few_and_many_queries()
    {
        CudaCase[] few = [.. CudaGrid.Few];
        Assert.Equal(TensorKernels.Pairs, few.Select(c => c.Sealed));
        Assert.Equal(["eight", "four", "many"], few.Select(c => c.Batch == CudaCase.Chunks ? "many" : c.Geometry.GroupSize <= 4 ? "four" : "eight").Distinct().Order(StringComparer.Ordinal));
    }
}
