using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public class AttentionGridTests
{
    private static readonly int[] EveryWidth = [8, 48, 64, 80, 96, 128, 192, 256, 576];

    [Fact]
    public void The_grid_holds_three_hundred_cases_each_with_its_own_name() =>
        Assert.InRange(AttentionGrid.All.Select(c => c.Name).Distinct().Count(), 220, 320);

    [Fact]
    public void The_grid_meets_every_format_with_every_page_size_and_batch() => AssertCovers([.. AttentionGrid.All], groups: [1, 2, 3, 4, 8]);

    [Fact]
    public void The_subset_for_emulators_still_holds_every_format_width_and_grouping() =>
        AssertCovers([.. AttentionGrid.Emulated], groups: [1, 2, 3, 4, 8]);

    [Fact]
    public void The_few_cases_for_barriers_are_small_and_hold_encoded_keys_and_values()
    {
        AttentionCase[] few = [.. AttentionGrid.Few];
        Assert.InRange(few.Length, 5, 8);
        Assert.Contains(few, c => c.SealedKey == PageFormat.I8);
        Assert.Contains(few, c => c.SealedValue == PageFormat.I8);
        Assert.Contains(few, c => c.Parts.Length > 1);
    }

    private static void AssertCovers(AttentionCase[] cases, int[] groups)
    {
        Assert.Equal(FormatPairs.All.Order(), cases.Select(c => (c.SealedKey, c.SealedValue)).Distinct().Order());
        Assert.Equal(EveryWidth, cases.Select(c => c.Geometry.KeyWidth).Distinct().Order());
        Assert.Equal(groups, cases.Select(c => c.Geometry.GroupSize).Distinct().Order());
        Assert.Equal([1, 5, 16, 64, 128], cases.Select(c => c.Geometry.PageTokens).Distinct().Order());
        Assert.Contains(cases, c => c.Geometry.KeyWidth != c.Geometry.ValueWidth && c.Geometry.ValueWidth > 128);
        Assert.Contains(cases, c => c.Parts.Any(p => p.Tokens == 1) && c.Parts.Any(p => p.Tokens > 1));
        Assert.Contains(cases, c => c.Parts.Any(p => p is { History: 0, Tokens: 1 }));
    }
}
