namespace KvCacheGpu;

/// <summary>How precisely attention computes where a device has tensor cores and a sequence brings many queries: chunks of prompts.</summary>
/// <remarks>
/// Tensor cores multiply numbers of 11 bits. In the exact mode each query and each weight enters as the sum of two such numbers or three, in the fast one with
/// one less. Few queries, and every other device, are exact in both modes.
/// </remarks>
public enum KvAttentionPrecision
{
    /// <summary>Results are within 1e-5 of the exact ones, relative to the output's norm.</summary>
    Exact = 0,

    /// <summary>
    /// Within 2e-3, in less time; mostly within 5e-4. It is the error of queries and weights that are rounded to 11 bits: logits far larger than usual, from |q| |k| scale = 50 on, may
    /// have more.
    /// </summary>
    Fast = 1,
}
