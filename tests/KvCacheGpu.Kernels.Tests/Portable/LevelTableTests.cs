namespace KvCacheGpu.Kernels.Tests;

/// <summary>The device code's constants against the tables that stored pages are defined by.</summary>
public sealed class LevelTableTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Levels_units_and_boundaries_are_the_definitions_bit_for_bit(int bits)
    {
        ReadOnlySpan<float> levels = Levels.Of(bits);
        Assert.Equal(Levels.Unit(bits), LevelTable.Unit(bits));
        Assert.Equal(Levels.Step(bits), LevelTable.Step(bits));
        for (int i = 0; i < levels.Length; i++)
        {
            Assert.Equal(BitConverter.SingleToInt32Bits(levels[i]), BitConverter.SingleToInt32Bits(LevelTable.Level(bits, i)));
            if (i + 1 < levels.Length)
            {
                Assert.Equal(Levels.Boundary(bits, i), LevelTable.Boundary(bits, i));
            }
        }
    }
}
