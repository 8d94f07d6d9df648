namespace KvCacheGpu;

/// <summary>What becomes of keys and values that are no finite number, or beyond what page formats hold.</summary>
public enum NonFinitePolicy
{
    /// <summary>The step is rolled back; <see cref="KvStep.Commit"/> throws <see cref="KvNonFiniteException"/>.</summary>
    Reject = 0,

    /// <summary>They are stored, and their page stays in full precision. Attention over it gives what IEEE arithmetic gives: NaN, as a rule.</summary>
    Keep = 1,
}
