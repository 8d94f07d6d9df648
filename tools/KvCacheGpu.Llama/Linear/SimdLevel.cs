namespace KvCacheGpu.Llama;

/// <summary>Which vectors linear layers compute with.</summary>
public enum SimdLevel
{
    /// <summary>The widest that this processor accelerates.</summary>
    Auto,

    /// <summary>One element at a time.</summary>
    Scalar,

    /// <summary>256-bit vectors.</summary>
    Vector256,

    /// <summary>512-bit vectors.</summary>
    Vector512,
}
