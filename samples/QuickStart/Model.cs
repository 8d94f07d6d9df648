namespace KvCacheGpu.Samples;

/// <summary>
/// A model that goes on with what it has read before: an induction head, the smallest attention that does something useful. The key of a token is the token before it, its value the token itself, and the query is
/// the last token: attention finds where that stood before, and its output is what followed. Each token, and one that stands before the first, is a vector of 64 made-up signs.
/// </summary>
internal static class Model
{
    public const int Vocabulary = 1000;

    public static KvGeometry Shape { get; } = new(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 64, pageTokens: 16) { AttentionScale = 1 };

    private static float[][] Vectors { get; } = [.. Enumerable.Range(0, Vocabulary + 1).Select(id => new Random(id)).Select(signs => Enumerable.Range(0, 64).Select(_ => signs.Next(2) - .5f).ToArray())];

    /// <summary>One forward pass: reads tokens behind those of the sequence, and says which comes next.</summary>
    public static int Read(KvSequence sequence, params int[] tokens)
    {
        int[] before = [sequence.Length > 0 ? sequence.TokenIds[^1] : Vocabulary, .. tokens];
        float[] keys = [.. before[..^1].SelectMany(id => Vectors[id])];
        float[] values = [.. tokens.SelectMany(id => Vectors[id])];
        float[] output = new float[values.Length];
        using (KvStep step = sequence.Begin(tokens))        // reserves room in every layer, or throws and changes nothing
        {
            for (int layer = 0; layer < Shape.Layers; layer++)
            {
                step.Append(layer, keys, values);
                step.Attend(layer, queries: values, output);
            }

            step.Commit();                                  // without it, the step leaves no trace
        }

        return Enumerable.Range(0, Vocabulary).MaxBy(id => Vectors[id].Zip(output[^64..], (a, b) => a * b).Sum());
    }
}
