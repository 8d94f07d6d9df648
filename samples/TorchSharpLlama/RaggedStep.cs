using KvCacheGpu;
using static TorchSharp.torch;

namespace TorchSharpLlama;

/// <summary>Steps without <see cref="KvTorchCache"/>: sequences of different lengths in one launch, token ids that find prefixes again, outputs of the host's own.</summary>
internal static class RaggedStep
{
    /// <summary>Runs one step of two sequences, three tokens of the one and one of the other, on made-up numbers.</summary>
    /// <returns>The attention of the last layer, <c>[tokens, query heads, width]</c>.</returns>
    public static Tensor Run(KvCache cache, KvSequence first, KvSequence second)
    {
        KvGeometry geometry = cache.Geometry;
        Tensor keys = randn(4, geometry.KvHeads, geometry.KeyWidth), values = randn(4, geometry.KvHeads, geometry.ValueWidth);
        Tensor queries = randn(4, geometry.QueryHeads, geometry.KeyWidth), output = zeros(4, geometry.QueryHeads, geometry.ValueWidth);
        using (KvStep step = cache.Begin([first, second], [11, 42, 7, 5], tokensPerSequence: [3, 1]))
        {
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                step.Append(layer, keys, values);
                step.Attend(layer, queries, output);
            }

            step.Commit();
        }

        return output;
    }
}
