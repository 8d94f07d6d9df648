using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public class LevelsTests
{
    [Theory]
    [InlineData(2, 0.1175)]
    [InlineData(3, 0.0345)]
    [InlineData(4, 0.0095)]
    public void The_tables_are_what_Lloyds_iteration_ends_in(int bits, double error)
    {
        (double[] levels, double meanSquare) = LloydMax.Solve(bits);
        Assert.InRange(meanSquare, error - 5.1e-5, error + 5.1e-5);
        Assert.Equal(levels.Length, Levels.Of(bits).Length);
        for (int i = 0; i < levels.Length; i++)
        {
            Assert.InRange(Levels.Of(bits)[i], levels[i] - 1e-6, levels[i] + 1e-6);
            Assert.Equal(-Levels.Of(bits)[i], Levels.Of(bits)[^(i + 1)]);
        }
    }

    [Fact]
    public void A_boundary_lies_halfway_between_its_levels()
    {
        for (int bits = 2; bits <= 4; bits++)
        {
            Assert.Equal(0f, Levels.Boundary(bits, (1 << (bits - 1)) - 1));
            for (int i = 0; i < (1 << bits) - 1; i++)
            {
                Assert.Equal((Levels.Of(bits)[i] + Levels.Of(bits)[i + 1]) / 2, Levels.Boundary(bits, i));
            }
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => Levels.Of(5).Length);
    }
}
