using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public class RotationTests
{
    [Theory]
    [InlineData(8)]
    [InlineData(48)]
    [InlineData(80)]
    [InlineData(128)]
    [InlineData(576)]
    public void Apply_is_the_hadamard_matrix_with_signs_and_undo_its_inverse(int width)
    {
        float[] signs = Rotation.Signs(width, 42);
        var gaussian = new Gaussian(width);
        float[] x = [.. Enumerable.Range(0, width).Select(_ => (float)gaussian.Next())];
        float[] rotated = [.. x];
        Rotation.Apply(rotated, signs);
        Expect.Near(HadamardMatrix.Apply([.. x.Select(e => (double)e)], signs), rotated, 1e-6, "rotated");
        Rotation.Undo(rotated, signs);
        Expect.Near([.. x.Select(e => (double)e)], rotated, 1e-6, "back");
    }

    // Stored pages depend on them: a change here is a change of format.
    [Fact]
    public void The_signs_of_a_seed_never_change() =>
        Assert.Equal("++-+++-+-++---+--+-++-+-", string.Concat(Rotation.Signs(24, 0x5EED).Select(s => s > 0 ? '+' : '-')));

    [Fact]
    public void Signs_balance_and_differ_from_seed_to_seed()
    {
        float[] signs = Rotation.Signs(512, 1);
        Assert.InRange(signs.Sum(), -80, 80);
        Assert.NotEqual(Rotation.Signs(512, 2), signs);
    }
}
