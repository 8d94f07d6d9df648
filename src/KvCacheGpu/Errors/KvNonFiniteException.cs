using System.Globalization;

namespace KvCacheGpu;

/// <summary>
/// E004: keys or values held a NaN, an infinity, or a number beyond what the page formats hold. The step was rolled back; the sequences
/// are as before it began.
/// </summary>
public sealed class KvNonFiniteException : KvCacheException
{
    private readonly float _largest;

    internal KvNonFiniteException(int layer, int token, int head, bool isValue, float largest, string? sequence = null)
        : base(
            "E004",
            $"{(sequence is null ? string.Empty : $"sequence '{sequence}', ")}{(isValue ? "value" : "key")} of layer {layer}, token {token}, KV head {head}",
            string.Create(CultureInfo.InvariantCulture, $"finite numbers below {largest:g9} in magnitude, as the page formats hold"),
            "a NaN, an infinity, or an overflow")
    {
        (Layer, Token, Head, IsValue) = (layer, token, head, isValue);
        _largest = largest;
    }

    /// <summary>Layer of the first element refused.</summary>
    public int Layer { get; }

    /// <summary>Its token, counted from the first of the step; from the first of the sequence where a file was being loaded.</summary>
    public int Token { get; }

    /// <summary>Its KV head, counted from the first held here.</summary>
    public int Head { get; }

    /// <summary>Whether it lay in the values; else in the keys.</summary>
    public bool IsValue { get; }

    /// <summary>The same of a sequence that a step of it was appended to.</summary>
    internal KvNonFiniteException In(string sequence, int firstToken) => new(Layer, firstToken + Token, Head, IsValue, _largest, sequence);
}
