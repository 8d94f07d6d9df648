namespace KvCacheGpu;

/// <summary>How precisely attention computes where a device can trade precision for time.</summary>
/// <remarks>
/// <para>
/// On a processor the fast mode reads keys in I8 and T4 and values in I8 and V4 as the whole numbers that they are. Queries are rounded to 15 bits of their largest element,
/// weights to 15 bits of their page's largest, and products are of pairs of 16-bit numbers; decoding and chunks alike. It needs AVX2; other formats, and other processors, are exact.
/// </para>
/// <para>
/// On CUDA devices the chunks of prompts are computed so, on tensor cores, which multiply numbers of 11 bits. In the exact mode each query and each weight enters as the sum of two
/// such numbers or three, in the fast one with one less. Decoding, and every other device, is exact in both modes.
/// </para>
/// </remarks>
public enum KvAttentionPrecision
{
    /// <summary>Results are within 1e-5 of the exact ones, relative to the output's norm.</summary>
    Exact = 0,

    /// <summary>
    /// On a processor within 1e-4, mostly within 6e-5: far below what the formats themselves cost (I8 .006, T4 with V4 .09). On CUDA within 2e-3, mostly within 5e-4. Both are of logits of the
    /// usual size: a query's rounding is in proportion to it, so that a query whose best key is far beyond the others may have half as much again, and more from |q| |k| scale = 50 on.
    /// </summary>
    Fast = 1,
}
