namespace KvCacheGpu.Evaluation;

/// <summary>
/// Synthetic keys, values and queries with the properties that are difficult for caches: keys with outlier channels, a sink, and attention of a
/// <see cref="SyntheticFamily"/>.
/// </summary>
public sealed class SyntheticAttention
{
    /// <summary>One layer, four KV heads, two query heads to each.</summary>
    public static KvGeometry Geometry { get; } = new(layers: 1, queryHeads: 8, kvHeads: 4, keyWidth: 64, pageTokens: EvalScale.PageTokens);

    private const int HeavyHitters = 8;
    private const int DriftEvery = 192;
    private const int Recent = 24;
    private const double LookBack = .25;
    private const double Sink = 4;
    private const double StrongSink = 11;
    private const int RepeatAfter = 512;
    private const double Look = 9;
    private const double Outlier = 6;

    private readonly Random _random;

    /// <summary>Makes a sequence. The same seed gives the same sequence.</summary>
    /// <param name="tokens">Number of its tokens.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="family">The heads' attention. The default value is <see cref="SyntheticFamily.Mixed"/>.</param>
    public SyntheticAttention(int tokens, int seed, SyntheticFamily family = SyntheticFamily.Mixed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(tokens, 1);
        (Tokens, Family, _random) = (tokens, family, new Random(seed));
        KvGeometry g = Geometry;
        Keys = new float[tokens * g.KvHeads * g.KeyWidth];
        Values = new float[tokens * g.KvHeads * g.ValueWidth];
        Queries = new float[tokens * g.QueryHeads * g.KeyWidth];
        for (int t = 0; t < tokens; t++)
        {
            for (int head = 0; head < g.KvHeads; head++)
            {
                double size = t == 0 ? .05 : Math.Exp(.3 * Gauss());
                for (int e = 0; e < g.KeyWidth; e++)
                {
                    Keys[At(t, head, g.KvHeads) + e] = (float)(Gauss() + (e % 29 == 5 ? Outlier : 0));
                    Values[At(t, head, g.KvHeads) + e] = (float)(size * Gauss());
                }
            }
        }

        for (int head = 0; head < g.KvHeads; head++)
        {
            WriteQueries(head);
        }
    }

    /// <summary>Number of tokens of the sequence.</summary>
    public int Tokens { get; }

    /// <summary>The heads' attention.</summary>
    public SyntheticFamily Family { get; }

    /// <summary><c>[tokens][KV heads][width]</c>.</summary>
    public float[] Keys { get; }

    /// <summary><c>[tokens][KV heads][width]</c>.</summary>
    public float[] Values { get; }

    /// <summary><c>[tokens][query heads][width]</c>.</summary>
    public float[] Queries { get; }

    private static int At(int token, int head, int heads) => ((token * heads) + head) * Geometry.KeyWidth;

    private void WriteQueries(int head)
    {
        int[] heavy = Pick(Tokens);
        int[] drifting = Pick(Recent);
        for (int t = 0; t < Tokens; t++)
        {
            drifting = t % DriftEvery == DriftEvery - 1 ? Pick(t) : drifting;
            int target = (Family, head) switch
            {
                (SyntheticFamily.Local or SyntheticFamily.Sinks, _) or (SyntheticFamily.Mixed, 0) => t - _random.Next(Math.Min(t + 1, Recent)),
                (SyntheticFamily.Repeating, _) => t >= RepeatAfter ? t - RepeatAfter : t - _random.Next(Math.Min(t + 1, Recent)),
                (SyntheticFamily.Mixed, 1) => heavy[_random.Next(HeavyHitters)],
                (SyntheticFamily.Mixed, 2) or (SyntheticFamily.Drifting, _) => drifting[_random.Next(HeavyHitters)],
                _ => _random.NextDouble() < LookBack ? _random.Next(t + 1) : t - _random.Next(Math.Min(t + 1, Recent)),
            };
            for (int member = 0; member < Geometry.GroupSize; member++)
            {
                Span<float> query = Queries.AsSpan(At(t, (head * Geometry.GroupSize) + member, Geometry.QueryHeads), Geometry.KeyWidth);
                foreach (ref float x in query)
                {
                    x = (float)(.3 * Gauss());
                }

                Aim(query, head, 0, Family == SyntheticFamily.Sinks ? StrongSink : Sink);
                if (Family != SyntheticFamily.Diffuse)
                {
                    Aim(query, head, Math.Min(target, t), Look);
                }
            }
        }
    }

    // Adds the shortest vector, along the part of the key that is its own, that raises its logit by the given amount.
    private void Aim(Span<float> query, int head, int token, double logit)
    {
        ReadOnlySpan<float> key = Keys.AsSpan(At(token, head, Geometry.KvHeads), Geometry.KeyWidth);
        double square = 0;
        for (int e = 0; e < key.Length; e++)
        {
            square += Own(key, e) * Own(key, e);
        }

        double gain = logit * Math.Sqrt(key.Length) / square;
        for (int e = 0; e < key.Length; e++)
        {
            query[e] += (float)(gain * Own(key, e));
        }

        static double Own(ReadOnlySpan<float> key, int e) => key[e] - (e % 29 == 5 ? Outlier : 0);
    }

    private int[] Pick(int among) => [.. Enumerable.Range(0, HeavyHitters).Select(_ => _random.Next(Math.Max(1, among)))];

    private double Gauss() => Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble());
}

/// <summary>Where the heads of <see cref="SyntheticAttention"/> look.</summary>
public enum SyntheticFamily
{
    /// <summary>Each of four heads elsewhere: at recent tokens; at a few heavy hitters; at heavy hitters that change; and sometimes back at any one token.</summary>
    Mixed,

    /// <summary>At recent tokens.</summary>
    Local,

    /// <summary>At all tokens alike.</summary>
    Diffuse,

    /// <summary>At the token that was there a period before, as where a passage comes again.</summary>
    Repeating,

    /// <summary>At heavy hitters, which change from time to time.</summary>
    Drifting,

    /// <summary>Mostly at the first token, beside it at recent ones.</summary>
    Sinks,
}
