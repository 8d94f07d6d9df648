namespace KvCacheGpu;

/// <content>Attention token by token, on request.</content>
public sealed partial class KvSequence
{
    /// <summary>The share of attention that each resident token would receive from a query. Decodes the keys: for evaluation, not for every step.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="queryHead">Query head, whose KV head's tokens are meant.</param>
    /// <param name="query">The query, <c>[key width]</c>, as for a step: roped, not scaled.</param>
    /// <param name="mass">Receives a number of 0..1 per resident token, ascending by position (<see cref="ResidentPositions"/>); they sum to 1.</param>
    /// <param name="positions">Receives these tokens' positions; empty, the default, leaves them out.</param>
    /// <returns>Tokens written: <see cref="ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">The query or the target is too short, or layer or head do not exist.</exception>
    public int TokenMass(int layer, int queryHead, ReadOnlySpan<float> query, Span<float> mass, Span<int> positions = default)
    {
        Kernels.KvGeometry geometry = Cache.Geometry;
        KvCache.ThrowIfOutside(queryHead, geometry.QueryHeads, nameof(queryHead));
        int row = RowOf(layer, queryHead / geometry.GroupSize);
        using Call call = new(this);
        int tokens = Table.ResidentTokens(row);
        KvCache.ThrowIfShorter(query.Length, geometry.KeyWidth, nameof(query));
        KvCache.ThrowIfShorter(mass.Length, tokens, nameof(mass));
        using var keys = new Pooled<float>(Math.Max(1, tokens * geometry.KeyWidth));
        Decode(row, 1, positions, keys.Span, []);
        double largest = double.NegativeInfinity;
        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)(Dot(query, keys.Span.Slice(token * geometry.KeyWidth, geometry.KeyWidth)) / Math.Sqrt(geometry.KeyWidth));
            largest = Math.Max(largest, mass[token]);
        }

        double sum = 0;
        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)Math.Exp(mass[token] - largest);
            sum += mass[token];
        }

        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)(mass[token] / sum);
        }

        return tokens;
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < b.Length; i++)
        {
            sum += (double)a[i] * b[i];
        }

        return sum;
    }
}
