using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Writes keys and values to pages of 64 tokens and reads them back: by a tier's own encoder and decoder, or by the oracle.</summary>
public static class PageCodec
{
    private const int PageTokens = 64;

    /// <summary>Appends, seals and materializes on a tier.</summary>
    public static (double[][] Keys, double[][] Values) ThroughTier(
        Func<KernelShape, long, KernelTier> create, PageFormat key, PageFormat value, float[][] keys, float[][] values)
    {
        (int tokens, int width) = (keys.Length, keys[0].Length);
        int pages = tokens / PageTokens;
        var geometry = new KvGeometry(1, 1, 1, width, width, PageTokens);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F32, key, value, sequences: 1, capacity: pages + 1);
        using var harness = new TierHarness(create, shape, (2 * pages) + 2, maxTokens: tokens + PageTokens);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 1, 1));
        float[] lag = new float[PageTokens * width];
        harness.Begin((sequence, tokens + PageTokens));
        harness.Append(0, Flat(keys, lag), Flat(values, lag));
        harness.End();
        harness.Seal(sequence);
        PageEntry[] encoded = [.. sequence.Rows[0, 0].Take(pages)];
        if (encoded.Any(e => e.PageClass != KernelShape.Sealed))
        {
            throw new InvalidOperationException($"{key.Name()}/{value.Name()}: pages of ordinary numbers were not sealed");
        }

        (var plainKeys, var plainValues) = (new float[tokens * width], new float[tokens * width]);
        harness.Tier.Materialize(
            [.. encoded.Select(e => new PageRead(e.Slot, e.PageClass, PageTokens, e.PageIndex * PageTokens, 1))], plainKeys, plainValues);
        return (ErrorCase.Doubles([.. plainKeys.Chunk(width)]), ErrorCase.Doubles([.. plainValues.Chunk(width)]));
    }

    /// <summary>The oracle's encoding, decoded in double.</summary>
    public static double[][] ThroughOracle(PageFormat format, float[][] vectors)
    {
        float[] signs = Rotation.Signs(vectors[0].Length, AttentionCase.RotationSeed);
        return [.. vectors.Chunk(PageTokens)
            .SelectMany(page => DecodedPage.Decode(PartOracle.Encode(format, page, false, AttentionCase.RotationSeed, hasDigest: false)))
            .Select(v => format.IsRotated() ? HadamardMatrix.Undo(v, signs) : v)];
    }

    private static float[] Flat(float[][] vectors, float[] lag) => [.. vectors.SelectMany(v => v), .. lag];
}
