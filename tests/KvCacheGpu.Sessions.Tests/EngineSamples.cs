namespace KvCacheGpu.Sessions.Tests;

/// <summary>Engines on the host, and tokens for them whose content follows from a number.</summary>
internal static class EngineSamples
{
    public const int Heads = 2;
    public const int Width = 64;
    public const int Token = Heads * Width;

    /// <summary>Two heads of width 64 in pages of 16 tokens, on the host, without loss.</summary>
    public static KvCacheConfig Config(Action<KvCacheConfig>? change = null)
    {
        var config = new KvCacheConfig
        {
            MaxTokens = 256,
            ConfigureOptions = options => (options.Device, options.MaxSequences) = ("cpu", 3),
            Model = { NumHeads = Heads, HeadDim = Width, BlockSize = 16 },
            Compression = { UseCompression = false },
        };
        change?.Invoke(config);
        return config;
    }

    public static UltraAdaptiveKvCacheEngine Engine(Action<KvCacheConfig>? change = null) => new(Config(change));

    /// <summary>Normal numbers of a seed, rounded to binary16.</summary>
    public static float[] Numbers(int seed, int length = Token)
    {
        var random = new Random(seed);
        float[] numbers = new float[length];
        for (int i = 0; i < length; i++)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()));
            numbers[i] = (float)(Half)(radius * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return numbers;
    }

    public static float[] Key(int seed) => Numbers(seed);

    public static float[] Value(int seed) => Numbers(seed + 1_000_000);

    /// <summary>Puts tokens of the seeds first.. at the positions first.., one by one.</summary>
    public static void PutMany(this UltraAdaptiveKvCacheEngine engine, int first, int count, KvSessionKey session = default)
    {
        for (int i = first; i < first + count; i++)
        {
            engine.Put(i, Key(i), Value(i), session);
        }
    }

    public static void AssertHolds(this UltraAdaptiveKvCacheEngine engine, int position, int seed, KvSessionKey session = default)
    {
        (float[] key, float[] value) = engine.Get(position, session) ?? throw new InvalidOperationException($"nothing at {position}");
        Assert.Equal(Key(seed), key);
        Assert.Equal(Value(seed), value);
    }

    /// <summary>Attention in double precision over the tokens of the seeds.</summary>
    public static float[] Attention(float[] query, params int[] seeds)
    {
        float[] output = new float[Token];
        for (int head = 0; head < Heads; head++)
        {
            double[] weights = [.. seeds.Select(seed => Math.Exp(Dot(query, Key(seed), head * Width) / Math.Sqrt(Width)))];
            for (int i = 0; i < Width; i++)
            {
                double sum = seeds.Select((seed, at) => weights[at] * Value(seed)[(head * Width) + i]).Sum();
                output[(head * Width) + i] = (float)(sum / weights.Sum());
            }
        }

        return output;
    }

    public static void AssertNear(float[] expected, float[] actual, double tolerance = 1e-5)
    {
        double norm = Math.Sqrt(expected.Sum(x => (double)x * x));
        Assert.Equal(expected.Length, actual.Length);
        Assert.InRange(Math.Sqrt(expected.Zip(actual, (a, b) => ((double)a - b) * ((double)a - b)).Sum()) / norm, 0, tolerance);
    }

    private static double Dot(float[] a, float[] b, int offset)
    {
        double sum = 0;
        for (int i = offset; i < offset + Width; i++)
        {
            sum += (double)a[i] * b[i];
        }

        return sum;
    }
}
