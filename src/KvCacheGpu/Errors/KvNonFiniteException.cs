using System.Globalization;

namespace KvCacheGpu;

/// <summary>
/// E004: keys or values held a NaN, an infinity, or a number beyond what the page formats hold. The step was rolled back; the sequences
/// are as before it began.
/// </summary>
public sealed class KvNonFiniteException : KvCacheException
{
    internal KvNonFiniteException(int layer, int token, int head, bool isValue, float largest)
        : base(
            "E004",
            $"{(isValue ? "value" : "key")} of layer {layer}, token {token}, KV head {head}",
            string.Create(CultureInfo.InvariantCulture, $"finite numbers below {largest:g9} in magnitude, as the page formats hold"),
            "a NaN, an infinity, or an overflow")
    {
        (Layer, Token, Head, IsValue) = (layer, token, head, isValue);
    }

    /// <summary>Layer of the first element refused.</summary>
    public int Layer { get; }

    /// <summary>Its token, counted from the first of the step.</summary>
    public int Token { get; }

    /// <summary>Its KV head, counted from the first held here.</summary>
    public int Head { get; }

    /// <summary>Whether it lay in the values; else in the keys.</summary>
    public bool IsValue { get; }
}
