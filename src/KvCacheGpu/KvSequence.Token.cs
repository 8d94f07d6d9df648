using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>One token, read back.</content>
public sealed partial class KvSequence
{
    /// <summary>Decodes one token of a layer, in the plain basis.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="position">The token, 0 to <see cref="Length"/> - 1.</param>
    /// <param name="keys">Receives <c>[KV heads][key width]</c>.</param>
    /// <param name="values">Receives <c>[KV heads][value width]</c>.</param>
    /// <returns>False where a policy dropped it in some KV head; the targets then hold nothing of use.</returns>
    /// <exception cref="ArgumentException">A target is too short, or layer or token do not exist.</exception>
    public bool TryRead(int layer, int position, Span<float> keys, Span<float> values)
    {
        KvGeometry geometry = Cache.Geometry;
        int firstRow = RowOf(layer, 0);
        using Call call = new(this);
        KvCache.ThrowIfOutside(position, Table.Length, nameof(position));
        KvCache.ThrowIfShorter(keys.Length, geometry.KvHeads * geometry.KeyWidth, nameof(keys));
        KvCache.ThrowIfShorter(values.Length, geometry.KvHeads * geometry.ValueWidth, nameof(values));
        using var pageKeys = new Pooled<float>(geometry.PageTokens * geometry.KeyWidth);
        using var pageValues = new Pooled<float>(geometry.PageTokens * geometry.ValueWidth);
        for (int head = 0; head < geometry.KvHeads; head++)
        {
            int row = firstRow + head;
            if (!Table.TryFind(row, position, out int entry, out int token))
            {
                return false;
            }

            lock (Cache.DeviceGate)
            {
                Cache.Tier.Materialize(
                    [new PageRead(Table.Slot(row, entry), Table.PageClass(row, entry), token + 1, 0, 1)],
                    pageKeys.Span[..((token + 1) * geometry.KeyWidth)], pageValues.Span[..((token + 1) * geometry.ValueWidth)]);
            }

            pageKeys.Span.Slice(token * geometry.KeyWidth, geometry.KeyWidth).CopyTo(keys[(head * geometry.KeyWidth)..]);
            pageValues.Span.Slice(token * geometry.ValueWidth, geometry.ValueWidth).CopyTo(values[(head * geometry.ValueWidth)..]);
        }

        return true;
    }
}
