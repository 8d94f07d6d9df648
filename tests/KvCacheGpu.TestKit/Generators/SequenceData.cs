namespace KvCacheGpu.TestKit;

/// <summary>The keys, values and queries of one sequence over all layers, made once from a seed.</summary>
public sealed class SequenceData
{
    /// <summary>Generates <paramref name="tokens"/> tokens.</summary>
    public SequenceData(KvGeometry geometry, int tokens, int seed, KeyKind kind = KeyKind.Outliers)
    {
        Tokens = tokens;
        (Keys, Values, Queries) = (new float[geometry.Layers][], new float[geometry.Layers][], new float[geometry.Layers][]);
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            var gaussian = new Gaussian((seed * 1000) + layer);
            float[][][] keys = [.. Heads(geometry).Select(_ => KeyGenerator.Keys(tokens, geometry.KeyWidth, kind, gaussian))];
            float[][][] values = [.. Heads(geometry).Select(_ => KeyGenerator.Values(tokens, geometry.ValueWidth, gaussian))];
            Keys[layer] = Interleave(keys, tokens);
            Values[layer] = Interleave(values, tokens);
            Queries[layer] = [.. from t in Enumerable.Range(0, tokens)
                                 from q in Enumerable.Range(0, geometry.QueryHeads)
                                 from x in KeyGenerator.Query(keys[q / geometry.GroupSize], t, gaussian)
                                 select x];
        }
    }

    /// <summary>Number of tokens.</summary>
    public int Tokens { get; }

    /// <summary>By layer: [tokens][KV heads][key width].</summary>
    public float[][] Keys { get; }

    /// <summary>By layer: [tokens][KV heads][value width].</summary>
    public float[][] Values { get; }

    /// <summary>By layer: [tokens][query heads][key width].</summary>
    public float[][] Queries { get; }

    private static IEnumerable<int> Heads(KvGeometry geometry) => Enumerable.Range(0, geometry.KvHeads);

    // [heads][tokens][width] to [tokens][heads][width], flat.
    private static float[] Interleave(float[][][] heads, int tokens) =>
        [.. Enumerable.Range(0, tokens).SelectMany(t => heads.SelectMany(head => head[t]))];
}
