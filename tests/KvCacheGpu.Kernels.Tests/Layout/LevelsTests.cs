using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public class LevelsTests
{
    [Theory]
    [InlineData(2, 0.1175)]
    [InlineData(3, 0.0345)]
    [InlineData(4, 0.0095)]
    public void The_tables_keep_the_error_of_Lloyds_iteration(int bits, double error)
    {
        (_, double least) = LloydMax.Solve(bits);
        Assert.InRange(least, error - 5.1e-5, error + 5.1e-5);
        double[] levels = [.. Levels.Of(bits).ToArray().Select(level => level / (double)Levels.Unit(bits))];
        double reached = LloydMax.ErrorOf(levels);
        Assert.InRange(reached, least - 1e-7, Math.Min(1.01 * error, 1.0006 * least));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void A_level_is_a_whole_number_and_a_half_and_its_code_a_sign_and_a_magnitude(int bits)
    {
        float[] levels = Levels.Of(bits).ToArray();
        int half = levels.Length / 2;
        Assert.Equal(1 << bits, levels.Length);
        for (int k = 0; k < half; k++)
        {
            float magnitude = levels[half | k];
            Assert.Equal(-magnitude, levels[k]);
            Assert.InRange(magnitude, k == 0 ? 0.5f : levels[half | (k - 1)] + 1, 127.5f);
            Assert.Equal(0.5f, magnitude - MathF.Floor(magnitude));
        }

        Assert.Equal(levels.Order(), Enumerable.Range(0, levels.Length).Select(i => levels[Levels.Code(bits, i)]));
    }

    [Fact]
    public void A_boundary_lies_halfway_between_its_levels()
    {
        for (int bits = 2; bits <= 4; bits++)
        {
            float[] ascending = [.. Levels.Of(bits).ToArray().Order()];
            Assert.Equal(0f, Levels.Boundary(bits, (1 << (bits - 1)) - 1));
            for (int i = 0; i < (1 << bits) - 1; i++)
            {
                Assert.Equal((ascending[i] + ascending[i + 1]) / 2, Levels.Boundary(bits, i));
            }
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => Levels.Of(5).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => Levels.Unit(1));
    }
}
