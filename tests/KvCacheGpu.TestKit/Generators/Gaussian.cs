namespace KvCacheGpu.TestKit;

/// <summary>Normal deviates from a seed, the same on every machine.</summary>
public sealed class Gaussian(int seed)
{
    private readonly Random _random = new(seed);

    /// <summary>One deviate of N(0, 1), by Box and Muller.</summary>
    public double Next() =>
        Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble());

    /// <summary>A uniform number below <paramref name="limit"/>.</summary>
    public int Below(int limit) => _random.Next(limit);
}
