using System.Security.Cryptography;

namespace KvCacheGpu;

/// <summary>
/// The scales that even out keys before they are rotated into a T format: for each (layer, KV head, element) a power of two that the key's element is multiplied by,
/// and the query's is divided by. Their product stays the same; a few elements that are much larger than the others no longer spread their rounding
/// errors over all of them.
/// </summary>
/// <remarks>
/// Source: SmoothAttention (QServe, Lin et al. 2024), which finds such scales before a model is used. Only T formats are scaled. Both elements of a RoPE pair should have one scale, so that
/// keys of every position are scaled alike; the table is right without that, but less useful.
/// Thread safety: it never changes.
/// </remarks>
public sealed class KvKeyScales
{
    /// <summary>The largest exponent.</summary>
    public const int MostExponent = 15;

    private readonly byte[] _exponents;

    /// <summary>Makes a table.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="exponents"><c>[layers][KV heads][key width]</c>: the element of a key is multiplied by 2^exponent; 0 to <see cref="MostExponent"/>.</param>
    /// <exception cref="ArgumentException">There are more or fewer, or one is too large.</exception>
    public KvKeyScales(KvGeometry geometry, ReadOnlySpan<byte> exponents)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        int expected = checked(geometry.Layers * geometry.KvHeads * geometry.KeyWidth);
        if (exponents.Length != expected)
        {
            throw new ArgumentException($"expected {expected} exponents, one for each layer, KV head and element of a key, got {exponents.Length}", nameof(exponents));
        }

        int wrong = exponents.IndexOfAnyExceptInRange((byte)0, (byte)MostExponent);
        if (wrong >= 0)
        {
            throw new ArgumentException($"expected exponents of 0..{MostExponent}, got {exponents[wrong]}", nameof(exponents));
        }

        _exponents = exponents.ToArray();
        (Layers, KvHeads, KeyWidth) = (geometry.Layers, geometry.KvHeads, geometry.KeyWidth);
    }

    /// <summary>Attention layers.</summary>
    public int Layers { get; }

    /// <summary>KV heads of each layer.</summary>
    public int KvHeads { get; }

    /// <summary>Elements of a key.</summary>
    public int KeyWidth { get; }

    /// <summary><c>[layers][KV heads][key width]</c>.</summary>
    public ReadOnlySpan<byte> Exponents => _exponents;

    /// <summary>True if all exponents are 0: the table scales nothing.</summary>
    public bool IsNone => !_exponents.AsSpan().ContainsAnyExcept((byte)0);

    /// <summary>SHA-256 of the exponents, in hexadecimal: tables of one fingerprint are the same. Part of a prefix's namespace (<c>PrefixNamespace.KeyScales</c>).</summary>
    public string Fingerprint => field ??= Convert.ToHexStringLower(SHA256.HashData(_exponents));

    /// <summary>A table that scales nothing: T pages are as they would be without scales.</summary>
    /// <param name="geometry">The model's shape.</param>
    public static KvKeyScales None(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        return new KvKeyScales(geometry, new byte[checked(geometry.Layers * geometry.KvHeads * geometry.KeyWidth)]);
    }

    /// <inheritdoc/>
    public override string ToString() => TextOf(Layers, KvHeads, KeyWidth);

    /// <summary>The shape of the tables of a geometry, as errors name it.</summary>
    internal static string TextFor(KvGeometry geometry) => TextOf(geometry.Layers, geometry.KvHeads, geometry.KeyWidth);

    /// <summary>True if the table has the shape of a geometry.</summary>
    internal bool IsFor(KvGeometry geometry) => Layers == geometry.Layers && KvHeads == geometry.KvHeads && KeyWidth == geometry.KeyWidth;

    /// <exception cref="ArgumentException">The table has another shape than a geometry.</exception>
    internal void ThrowIfNotFor(KvGeometry geometry, string name)
    {
        if (!IsFor(geometry))
        {
            throw new ArgumentException($"expected {TextFor(geometry)}, got {this}", name);
        }
    }

    /// <summary>The exponents of a row, layer * KV heads + head.</summary>
    internal ReadOnlySpan<byte> Of(int row) => _exponents.AsSpan(row * KeyWidth, KeyWidth);

    private static string TextOf(int layers, int kvHeads, int keyWidth) => $"scales of {layers} layers, {kvHeads} KV heads and a key width of {keyWidth}";
}
