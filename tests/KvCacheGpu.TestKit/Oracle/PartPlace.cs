using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The place of the keys or the values in a page, by the drawing in <see cref="PageLayout"/>: [wK][P] words of keys, [P][wV] of values.</summary>
public sealed class PartPlace
{
    private readonly PageLayout _layout;
    private readonly bool _isValue;

    /// <summary>The keys' place, or the values'.</summary>
    public PartPlace(PageLayout layout, KvGeometry geometry, bool isValue)
    {
        (_layout, _isValue) = (layout, isValue);
        Width = isValue ? geometry.ValueWidth : geometry.KeyWidth;
    }

    /// <summary>The part's format.</summary>
    public PageFormat Format => _isValue ? _layout.ValueFormat : _layout.KeyFormat;

    /// <summary>Elements of a vector.</summary>
    public int Width { get; }

    /// <summary>Words from one word of a vector to its next.</summary>
    public int WordStride => _isValue ? 1 : _layout.PageTokens;

    /// <summary>Scales of a vector.</summary>
    public int ScalePlanes => _isValue ? _layout.ValueScalePlanes : _layout.KeyScalePlanes;

    /// <summary>True if the part has a digest: keys of sealed pages.</summary>
    public bool HasDigest => !_isValue && _layout.HasDigest;

    /// <summary>The mean's first half in the page.</summary>
    public int MeanHalf => HasDigest ? 2 * _layout.DigestOffset : -1;

    /// <summary>The deviation's first half in the page.</summary>
    public int DeviationHalf => HasDigest ? MeanHalf + _layout.DigestStride : -1;

    /// <summary>The first word of a token's vector.</summary>
    public int FirstWord(int token) => _isValue ? _layout.ValueOffset + (token * _layout.ValueWords) : token;

    /// <summary>The place of a scale, in halves from the page's start.</summary>
    public int ScaleHalf(int token, int plane) =>
        (2 * (_isValue ? _layout.ValueScaleOffset : _layout.KeyScaleOffset)) + (plane * _layout.ScaleStride) + token;

    /// <summary>Reads a half.</summary>
    public static Half ReadHalf(ReadOnlySpan<int> page, int half) => MemoryMarshal.Cast<int, Half>(page)[half];

    /// <summary>Reads a vector of halves; none if the place is negative.</summary>
    public Half[] ReadHalves(ReadOnlySpan<int> page, int half) =>
        half < 0 ? [] : MemoryMarshal.Cast<int, Half>(page).Slice(half, Width).ToArray();

    /// <summary>Writes a half.</summary>
    public static void WriteHalf(Span<int> page, int half, Half value) => MemoryMarshal.Cast<int, Half>(page)[half] = value;
}
