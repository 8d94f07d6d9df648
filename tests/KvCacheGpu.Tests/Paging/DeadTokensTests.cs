namespace KvCacheGpu.Tests;

public sealed class DeadTokensTests
{
    [Theory]
    [InlineData(5)]
    [InlineData(32)]
    [InlineData(70)]
    public void Bits_are_of_one_row_and_page_and_positions_tell_the_live_ones(int pageTokens)
    {
        var ledger = new MemoryLedger(null);
        var geometry = new KvGeometry(1, 2, 2, 8, pageTokens: pageTokens);
        using var dead = new DeadTokens(geometry, ledger);
        dead.Resize(1);
        dead.Kill(0, 0, 0);
        dead.Resize(4);
        Assert.Equal(4 * DeadTokens.BytesOfPage(geometry), ledger.Live);
        Assert.True(dead.Any(0, 0) && !dead.Any(0, 1) && !dead.Any(1, 0));
        dead.CutTo(0, 0);
        Assert.False(dead.Any(1, 2));
        dead.Kill(1, 1, 2);
        Assert.True(dead.Any(1, 1) && dead.Any(1, 2));
        Assert.False(dead.Any(1, 0) || dead.Any(1, 3) || dead.Any(0, 1) || dead.Same(0, 1));
        var live = new int[dead.WordsPerRow];
        int[] kept = [pageTokens, (2 * pageTokens) - 1, (2 * pageTokens) + 3];
        Assert.All(kept, position => dead.Set(live, position));
        dead.Revive(1, live);
        var positions = new int[4 * pageTokens];
        Assert.Equal(3, dead.LivePositions(1, 1, 2, positions));
        Assert.Equal(kept, positions[..3]);
        Assert.Equal(pageTokens, dead.LivePositions(1, 3, 3, positions));

        // What is cut off grows anew; what lies before stays gone.
        dead.CutTo(1, (2 * pageTokens) + 2);
        Assert.Equal(2 + pageTokens - 2, dead.LivePositions(1, 1, 2, positions));
        Assert.Equal([.. kept[..2], .. Enumerable.Range((2 * pageTokens) + 2, pageTokens - 2)], positions[..pageTokens]);
        dead.CutTo(1, 0);
        Assert.True(dead.Same(0, 1));
        dead.CutTo(1, 4 * pageTokens);
    }
}
