using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Decodes saved pages in the layouts that they were saved in, on the host, and writes their tokens into pages of a cache. Takes host memory
/// of two pages as numbers, outside of the cache's budget.
/// </summary>
internal sealed class PageRewriter : IDisposable
{
    private readonly CacheState _cache;
    private readonly SnapshotContent _content;
    private readonly KernelTier _source;
    private readonly float[] _keys;
    private readonly float[] _values;
    private readonly float[] _wholeKeys;
    private readonly float[] _wholeValues;
    private readonly int[] _words;
    private KvKeyScales? _scales;

    public PageRewriter(CacheState cache, SnapshotContent content)
    {
        (_cache, _content) = (cache, content);
        (KvGeometry there, KvGeometry here) = (content.Geometry, cache.Geometry);
        IReadOnlyList<PageLayout> classes = content.Classes.Count > 1 ? content.Classes : [content.Classes[0], content.Classes[0]];
        var shape = new KernelShape(there, classes, content.RotationSeed, 1, 1, keepsNonFinite: true);
        long bytes = new TableMap(shape).Bytes + classes.Max(layout => layout.Bytes);
        _source = KvDevice.CreateTier("cpu", shape, bytes);
        (_keys, _values) = (new float[there.PageTokens * there.KeyWidth], new float[there.PageTokens * there.ValueWidth]);
        (_wholeKeys, _wholeValues) = (new float[here.PageTokens * here.KeyWidth], new float[here.PageTokens * here.ValueWidth]);
        _words = new int[cache.Tier.Shape.Classes[KernelShape.Open].Bytes / sizeof(int)];
    }

    /// <summary>Decodes some tokens of a saved page to where they belong in the page that is being made.</summary>
    /// <param name="pageClass">The saved page's class.</param>
    /// <param name="bytes">Its bytes.</param>
    /// <param name="skipped">Tokens of it that are left out.</param>
    /// <param name="at">Where its first token goes.</param>
    /// <param name="tokens">How many.</param>
    /// <param name="scales">The key scales that it was saved under, or null.</param>
    /// <param name="row">Its row.</param>
    public void Decode(int pageClass, ReadOnlySpan<byte> bytes, int skipped, int at, int tokens, KvKeyScales? scales, int row)
    {
        KvGeometry geometry = _content.Geometry;
        int slot = _source.Map.FirstPageUnit;
        if (scales != _scales)
        {
            _source.SetKeyScales(0, scales ?? KvKeyScales.None(geometry));
            _scales = scales;
        }

        _source.Load((long)slot * PageLayout.UnitWords, MemoryMarshal.Cast<byte, int>(bytes));
        _source.Materialize([new PageRead(slot, pageClass, skipped + tokens, 0, 1, _source.KeyRow(0, row))], _keys, _values);
        _keys.AsSpan(skipped * geometry.KeyWidth, tokens * geometry.KeyWidth).CopyTo(_wholeKeys.AsSpan(at * geometry.KeyWidth));
        _values.AsSpan(skipped * geometry.ValueWidth, tokens * geometry.ValueWidth).CopyTo(_wholeValues.AsSpan(at * geometry.ValueWidth));
    }

    /// <summary>Writes what was decoded into a page.</summary>
    /// <param name="page">The page that it becomes.</param>
    /// <param name="slot">Its slot.</param>
    /// <param name="open">A slot of an open page to write in first, of no further use where the page itself is an open one.</param>
    /// <returns>Kept if its class cannot hold the numbers: they lie in <paramref name="open"/> then.</returns>
    /// <exception cref="KvUnsupportedException">An element that the cache refuses (E009).</exception>
    /// <param name="keyRow">The page's row, under the table of key scales of its sequence.</param>
    public PageOutcome Write(in PlannedPage page, int slot, int open, int keyRow)
    {
        KvGeometry geometry = _cache.Geometry;
        KernelShape shape = _cache.Tier.Shape;
        PageLayout layout = shape.Classes[KernelShape.Open];
        ThrowIfRefused(_wholeKeys.AsSpan(0, page.Tokens * geometry.KeyWidth), shape.KeyRefusedFrom, "key");
        ThrowIfRefused(_wholeValues.AsSpan(0, page.Tokens * geometry.ValueWidth), shape.ValueRefusedFrom, "value");
        Array.Clear(_words);
        for (int token = 0; token < page.Tokens; token++)
        {
            OpenPage.Put(
                layout, token, _wholeKeys.AsSpan(token * geometry.KeyWidth, geometry.KeyWidth),
                _wholeValues.AsSpan(token * geometry.ValueWidth, geometry.ValueWidth), _words);
        }

        return _cache.Writer.Import(_words, page.Tokens, page.Class, slot, open, keyRow);
    }

    public void Dispose() => _source.Dispose();

    private static void ThrowIfRefused(ReadOnlySpan<float> elements, uint refusedFrom, string part)
    {
        foreach (uint bits in MemoryMarshal.Cast<float, uint>(elements))
        {
            if ((bits & 0x7FFFFFFF) >= refusedFrom)
            {
                throw RestoreCheck.Refused(part, refusedFrom, $"{BitConverter.UInt32BitsToSingle(bits)}");
            }
        }
    }
}
