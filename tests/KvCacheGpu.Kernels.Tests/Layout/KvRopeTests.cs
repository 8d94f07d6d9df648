namespace KvCacheGpu.Kernels.Tests;

public sealed class KvRopeTests
{
    [Fact]
    public void Frequencies_fall_from_one_turn_of_one_radian_over_the_elements_that_turn()
    {
        Assert.Equal([1, 0.1], new KvRope { Theta = 100 }.Frequencies(4));
        Assert.Equal([1, 0.1], new KvRope { Theta = 100, Width = 4 }.Frequencies(64));
        Assert.Equal([0.25, 0.025], new KvRope { Theta = 100, Factor = 4 }.Frequencies(4));
    }

    [Fact]
    public void Llama3_divides_long_wavelengths_alone()
    {
        double[] plain = new KvRope { Theta = 500_000 }.Frequencies(128);
        double[] stretched = new KvRope { Theta = 500_000, Factor = 8, OriginalContext = 8192 }.Frequencies(128);
        Assert.Equal(plain[0], stretched[0]);
        Assert.Equal(plain[63] / 8, stretched[63]);
        Assert.Contains(plain.Zip(stretched), x => x.Second < x.First && x.Second > x.First / 8);
    }

    [Fact]
    public void What_fits_no_key_or_contradicts_itself_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvRope { Theta = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvRope { Theta = double.NaN });
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvRope { Factor = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvRope { Width = 3 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvRope { Width = -2 });
        var geometry = new KvGeometry(1, 1, 1, 8);
        Assert.Equal(8, (geometry with { Rope = new KvRope { Width = 8 } }).Rope!.Width);
        Assert.Throws<ArgumentException>(() => geometry with { Rope = new KvRope { Width = 10 } });
        Assert.Throws<ArgumentException>(() => new KvGeometry(1, 1, 1, 9) { Rope = new KvRope() });
        Assert.Throws<ArgumentException>(() => geometry with { Rope = new KvRope { OriginalContext = 8, LowFrequencyFactor = 4 } });
    }
}
