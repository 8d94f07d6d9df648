namespace KvCacheGpu.Evaluation;

/// <summary>Attention over all tokens, in binary64: shares and outputs of the tokens that are written.</summary>
internal sealed class ExactAttention
{
    private readonly float[][] _outputs = new float[SyntheticRun.Written][];
    private readonly double[][] _shares = new double[SyntheticRun.Written][];
    private readonly int[] _positions = new int[SyntheticRun.Tokens];

    public ExactAttention(SyntheticAttention source)
    {
        Source = source;
        for (int i = 0; i < SyntheticRun.Written; i++)
        {
            (_outputs[i], _shares[i]) = (new float[Heads * Width], new double[Heads * SyntheticRun.Tokens]);
            for (int head = 0; head < Heads; head++)
            {
                Attend(First + i, head, _shares[i].AsSpan(head * SyntheticRun.Tokens, SyntheticRun.Tokens), _outputs[i].AsSpan(head * Width, Width));
            }
        }

        Future = Foresee();
    }

    public SyntheticAttention Source { get; }

    /// <summary>The attention of the written tokens, counted as caches do: means over the query heads of a KV head.</summary>
    public FutureMass Future { get; }

    private static int First => SyntheticRun.Tokens - SyntheticRun.Written;

    private static int Heads => SyntheticAttention.Geometry.QueryHeads;

    private static int Width => SyntheticAttention.Geometry.ValueWidth;

    public ReadOnlySpan<float> Output(int token) => _outputs[token - First];

    /// <summary>Share of a token's attention on tokens that a sequence still holds, mean over its heads.</summary>
    public double MassOf(KvSequence sequence, int token)
    {
        double mass = 0;
        for (int head = 0; head < Heads; head++)
        {
            int count = sequence.ResidentPositions(0, head / SyntheticAttention.Geometry.GroupSize, _positions);
            ReadOnlySpan<double> shares = _shares[token - First].AsSpan(head * SyntheticRun.Tokens, SyntheticRun.Tokens);
            foreach (int position in _positions.AsSpan(0, count))
            {
                mass += shares[position] / Heads;
            }
        }

        return mass;
    }

    private FutureMass Foresee()
    {
        KvGeometry g = SyntheticAttention.Geometry;
        int pages = g.PagesFor(SyntheticRun.Tokens);
        List<float[]> queries = [];
        foreach (double[] shares in _shares)
        {
            float[] query = new float[g.KvHeads * pages];
            for (int i = 0; i < shares.Length; i++)
            {
                (int head, int token) = (i / SyntheticRun.Tokens, i % SyntheticRun.Tokens);
                query[(head / g.GroupSize * pages) + (token / g.PageTokens)] += (float)(shares[i] / g.GroupSize);
            }

            queries.Add(query);
        }

        return new FutureMass(pages, queries);
    }

    private void Attend(int token, int head, Span<double> shares, Span<float> output)
    {
        KvGeometry g = SyntheticAttention.Geometry;
        ReadOnlySpan<float> query = Source.Queries.AsSpan(((token * g.QueryHeads) + head) * Width, Width);
        double sum = 0;
        for (int t = 0; t <= token; t++)
        {
            ReadOnlySpan<float> key = Source.Keys.AsSpan(((t * g.KvHeads) + (head / g.GroupSize)) * Width, Width);
            double logit = 0;
            for (int e = 0; e < Width; e++)
            {
                logit += (double)query[e] * key[e];
            }

            sum += shares[t] = Math.Exp(SyntheticAttention.Geometry.LogitOf(logit));
        }

        for (int t = 0; t <= token; t++)
        {
            shares[t] /= sum;
            ReadOnlySpan<float> value = Source.Values.AsSpan(((t * g.KvHeads) + (head / g.GroupSize)) * Width, Width);
            for (int e = 0; e < Width; e++)
            {
                output[e] += (float)(shares[t] * value[e]);
            }
        }
    }
}
