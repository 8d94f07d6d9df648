using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The running softmax of four queries, with the results of the last page. Logits are raw: only their differences are converted to units of
/// log2, so that no logit is too large to be compared.
/// </summary>
internal unsafe struct SoftmaxState
{
    /// <summary>From units of log2 to natural ones.</summary>
    public const float NaturalUnit = 0.6931471806f;

    // With it factors stay below 2^128: the largest scale of logits is 1e6, and the largest exponent 139.
    private const int MostExponent = 100;
    private const float HugeLift = 1L << 40;

    /// <summary>Largest logit so far.</summary>
    public fixed float Maximum[4];

    /// <summary>Sum of the powers of (logit - Maximum) so far.</summary>
    public fixed float Sum[4];

    /// <summary>The page's largest logit.</summary>
    public fixed float PageMaximum[4];

    /// <summary>Sum of the powers of (logit - PageMaximum) over the page.</summary>
    public fixed float PageSum[4];

    /// <summary>Factor of the earlier outputs.</summary>
    public fixed float Keep[4];

    /// <summary>Factor that brings a difference of raw logits to units of log2, together with <see cref="Lift"/>.</summary>
    public fixed float Factor[4];

    /// <summary>The power of two that the query was divided by.</summary>
    public fixed int Exponent[4];

    /// <summary>The page's largest logit in natural units; minus infinity where nothing of it is seen.</summary>
    public fixed float PageLogit[4];

    /// <summary>Factor of a token's offset: the query times the page's mean.</summary>
    public fixed float Mean[4];

    /// <summary>Zeros: the bias of formats that have no minimum.</summary>
    public fixed float Nothing[4];

    /// <summary>Added to a group of outputs: the sum of the weights times the group's minimum.</summary>
    public fixed float Bias[4];

    /// <summary>Room for the powers that a page needs, as many as the widest vectors hold.</summary>
    public fixed float Powers[16];

    /// <summary>The page's first token that the query sees; at or beyond the count where it sees none.</summary>
    public fixed int First[4];

    /// <summary>The page's first token that the query does not see yet.</summary>
    public fixed int Count[4];

    /// <summary>A second factor where <see cref="Factor"/> alone would leave binary32; else 1.</summary>
    public float Lift;

    /// <summary>Factor that brings a sum of products to logit / cap, together with <see cref="CapLift"/>; only where logits are capped.</summary>
    public fixed float CapFactor[4];

    /// <summary>A second factor beside <see cref="CapFactor"/>; 0 where logits are not capped.</summary>
    public float CapLift;

    /// <summary>
    /// A raw logit in natural units, to the same bits as <see cref="PageLogit"/>: rounded otherwise, large ones would differ by more than a
    /// page's share.
    /// </summary>
    /// <param name="raw">Sum of products.</param>
    /// <param name="logitFactor">Brings a raw logit to units of log2.</param>
    /// <param name="exponent">The query's.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float LogitOf(float raw, float logitFactor, int exponent)
    {
        float lift = exponent > MostExponent ? HugeLift : 1f;
        return Math.Clamp(raw * MathF.ScaleB(logitFactor / lift, exponent) * lift * NaturalUnit, float.MinValue, float.MaxValue);
    }

    /// <summary>Sets the factors of logits that are capped: a raw logit is tanh(logit / cap) then, whatever its query was divided by.</summary>
    /// <param name="logitFactor">log2(e) * cap.</param>
    /// <param name="scale">The scale of logits / cap.</param>
    /// <param name="exponents">Exponents of the powers of two that the queries were divided by.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void SetCappedFactors(float logitFactor, double scale, Vector128<int> exponents)
    {
        SetFactors(logitFactor, Vector128<int>.Zero);
        CapLift = 1f;
        for (int r = 0; r < 4; r++)
        {
            CapLift = Math.ScaleB(scale, exponents[r] - MostExponent) > 1 ? HugeLift : CapLift;
        }

        for (int r = 0; r < 4; r++)
        {
            // Where this is more than the largest number, every product but 0 is far beyond the cap.
            CapFactor[r] = (float)Math.Min(Math.ScaleB(scale, exponents[r]) / CapLift, float.MaxValue);
        }
    }

    /// <summary>Sets the factors from the powers of two that the queries were divided by.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void SetFactors(float logitFactor, Vector128<int> exponents)
    {
        CapLift = 0f;
        Lift = Vector128.GreaterThanAny(exponents, Vector128.Create(MostExponent)) ? HugeLift : 1f;
        for (int r = 0; r < 4; r++)
        {
            Exponent[r] = exponents[r];
            Factor[r] = MathF.ScaleB(logitFactor / Lift, exponents[r]);
        }
    }

    /// <summary>Sets queries that have seen nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Clear()
    {
        for (int r = 0; r < 4; r++)
        {
            (Maximum[r], Sum[r], Nothing[r]) = (float.NegativeInfinity, 0, 0);
        }
    }
}
