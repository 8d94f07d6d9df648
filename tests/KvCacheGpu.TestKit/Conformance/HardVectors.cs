namespace KvCacheGpu.TestKit;

/// <summary>Vectors that are difficult for formats, among ordinary ones.</summary>
public static class HardVectors
{
    /// <summary>Number of kinds of hard vectors.</summary>
    public const int Kinds = 12;

    /// <summary>[tokens][heads][width], a hard vector wherever the running number is even.</summary>
    public static float[] Make(int tokens, int heads, int width, int seed)
    {
        var gaussian = new Gaussian(seed);
        float[][] ordinary = KeyGenerator.Keys(tokens * heads, width, KeyKind.Outliers, gaussian);
        return [.. Enumerable.Range(0, tokens * heads).SelectMany(i => i % 2 == 1 ? ordinary[i] : Hard(i / 2, width, ordinary[i]))];
    }

    /// <summary>A vector of one of the twelve kinds, two of which are a scaled ordinary vector.</summary>
    public static float[] Hard(int kind, int width, float[] ordinary) => (kind % Kinds) switch
    {
        0 => new float[width],
        1 => Fill(width, _ => 0.7f),
        2 => Fill(width, i => i == width / 3 ? 65504f : 0),
        3 => Fill(width, i => i % 2 == 0 ? 65504f : -65504f),
        4 => Fill(width, i => (i + 1) * 1e-41f),
        5 => Fill(width, i => (i - 3) * 5.9604645e-8f),
        6 => Fill(width, _ => -65504f),
        7 => Fill(width, i => -0f * i),
        8 => Fill(width, i => 1f + (i * 0.00048828125f / 2)),
        9 => [.. ordinary.Select(x => x * 1e-5f)],
        10 => [.. ordinary.Select(x => x * 3000f)],
        _ => Fill(width, i => (1 + (i * 0.00390625f)) * 1.17549435e-38f),
    };

    private static float[] Fill(int width, Func<int, float> element) => [.. Enumerable.Range(0, width).Select(element)];
}
