using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Which formats follow which, and that a tier refuses the others by name.</summary>
public sealed class PageMovesTests
{
    [Theory]
    [InlineData(PageFormat.F32, "f32 f16 bf16 i8 t4 t3 t2 v4 v3 v2 fp8 q8_0 q4_0")]
    [InlineData(PageFormat.I8, "i8 t4 t3 t2 v4 v3 v2")]
    [InlineData(PageFormat.T4, "t4 t3 t2")]
    [InlineData(PageFormat.T3, "t3 t2")]
    [InlineData(PageFormat.T2, "t2")]
    [InlineData(PageFormat.V4, "v4 v3 v2")]
    [InlineData(PageFormat.V3, "v3 v2")]
    [InlineData(PageFormat.V2, "v2")]
    [InlineData(PageFormat.FP8, "fp8")]
    [InlineData(PageFormat.Q8, "q8_0")]
    [InlineData(PageFormat.Q4, "q4_0")]
    public void A_sealed_part_goes_down_its_ladder(PageFormat source, string targets) =>
        Assert.Equal(targets, string.Join(' ', Enum.GetValues<PageFormat>().Where(f => PageMoves.IsStep(source, f)).Select(f => f.Name())));

    [Fact]
    public void A_move_up_the_ladder_is_refused_by_the_names_of_its_formats()
    {
        var geometry = new KvGeometry(1, 1, 1, 16, pageTokens: 4);
        KernelShape shape = Shapes.Classes(geometry, PageFormat.F16, [(PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4)]);
        using PortableTier tier = Emulated.Tier(shape, 1 << 18, 1);
        int slot = tier.Map.FirstPageUnit;
        ArgumentException refused = Assert.Throws<ArgumentException>(() => tier.Transcode([new PageMove(slot, 2, slot + 100, 1, 4)]));
        Assert.Contains("t4/v4 to i8/i8", refused.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => tier.Transcode([new PageMove(slot, 0, slot + 100, 3, 4)]));
        Assert.Throws<ArgumentException>(() => tier.Transcode([new PageMove(slot, 0, slot + 100, 1, 4), new PageMove(slot, 0, slot + 200, 1, 4)], new bool[1]));
    }
}
