namespace KvCacheGpu;

/// <summary>The treatment of keys and values that are not finite, or beyond the numbers that page formats hold.</summary>
/// <remarks>
/// What is beyond the formats is asked of keys and values apart, of all formats that the cache may store them in: where these are F32 alone, nothing
/// finite; with BF16, what rounds to infinity there; with any other, magnitudes of 65,520 and more. Above 65,504, the largest binary16, what is below
/// 65,520 is stored as 65,504.
/// </remarks>
public enum NonFinitePolicy
{
    /// <summary>The step is rolled back; <see cref="KvStep.Commit"/> throws <see cref="KvNonFiniteException"/>.</summary>
    Reject = 0,

    /// <summary>They are stored, and their page stays in full precision; in F16, magnitudes of 65,520 and more become infinite. What attention over such a page gives is not defined: NaN, or a number as if the token were masked.</summary>
    Keep = 1,
}
