using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What can be read of a sequence between steps.</content>
public sealed partial class KvSequence
{
    private const int ReadsAtOnce = 64;

    private readonly LayerSet _attended;

    /// <summary>Tokens that a policy dropped: the mean over layers and KV heads.</summary>
    public double EvictedTokens
    {
        get
        {
            using Call call = new(this);
            long resident = 0;
            for (int row = 0; row < Table.Rows; row++)
            {
                resident += Table.ResidentTokens(row);
            }

            return Table.Length - ((double)resident / Table.Rows);
        }
    }

    /// <summary>Bytes of the pages that the sequence lists; pages shared with forks count fully in each.</summary>
    public long AllocatedBytes
    {
        get
        {
            using Call call = new(this);
            return Cache.Pool.BytesOf(Table.ListedPages());
        }
    }

    /// <summary>Tokens of a layer and KV head that are resident.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such layer or head.</exception>
    public int ResidentTokens(int layer, int head)
    {
        int row = RowOf(layer, head);
        using Call call = new(this);
        return Table.ResidentTokens(row);
    }

    /// <summary>
    /// Writes the positions of a layer and KV head's resident tokens, ascending. Between two calls another sequence's step may make a policy drop some:
    /// <see cref="Materialize(int, int, Span{int}, Span{float}, Span{float})"/> reads positions and tokens together.
    /// </summary>
    /// <returns>How many: <see cref="ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">The target is too short.</exception>
    public int ResidentPositions(int layer, int head, Span<int> positions)
    {
        int row = RowOf(layer, head);
        using Call call = new(this);
        return PositionsOf(row, positions);
    }

    /// <summary>Decodes a layer's resident tokens, in the plain basis.</summary>
    /// <inheritdoc cref="Materialize(int, Span{int}, Span{float}, Span{float})"/>
    public int Materialize(int layer, Span<float> keys, Span<float> values) => Materialize(layer, [], keys, values);

    /// <summary>Decodes a layer's resident tokens, in the plain basis, and tells their positions: all of one moment.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="positions">Receives the tokens' positions, ascending; empty leaves them out.</param>
    /// <param name="keys">Receives <c>[tokens][KV heads][key width]</c>; empty leaves the keys out.</param>
    /// <param name="values">Receives <c>[tokens][KV heads][value width]</c>; empty leaves the values out.</param>
    /// <returns>Tokens written, ascending by position.</returns>
    /// <exception cref="KvUnsupportedException">E009: a policy left different pages to different heads; read them one by one.</exception>
    /// <exception cref="ArgumentException">A target is too short, or the layer does not exist.</exception>
    public int Materialize(int layer, Span<int> positions, Span<float> keys, Span<float> values)
    {
        int firstRow = RowOf(layer, 0);
        using Call call = new(this);
        int heads = Cache.Geometry.KvHeads;
        for (int head = 1; head < heads; head++)
        {
            if (!Table.ListsSamePages(firstRow, firstRow + head))
            {
                throw new KvUnsupportedException(
                    $"Materialize of layer {layer}", "the same pages in every KV head", $"other pages in head {head} than in head 0");
            }
        }

        return Decode(firstRow, heads, positions, keys, values);
    }

    /// <summary>Decodes the resident tokens of a layer and KV head, in the plain basis.</summary>
    /// <inheritdoc cref="Materialize(int, int, Span{int}, Span{float}, Span{float})"/>
    public int Materialize(int layer, int head, Span<float> keys, Span<float> values) => Materialize(layer, head, [], keys, values);

    /// <summary>Decodes the resident tokens of a layer and KV head, in the plain basis, and tells their positions: all of one moment.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="positions">Receives the tokens' positions, ascending; empty leaves them out.</param>
    /// <param name="keys">Receives <c>[tokens][key width]</c>; empty leaves the keys out.</param>
    /// <param name="values">Receives <c>[tokens][value width]</c>; empty leaves the values out.</param>
    /// <returns>Tokens written: <see cref="ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">A target is too short, or layer or head do not exist.</exception>
    public int Materialize(int layer, int head, Span<int> positions, Span<float> keys, Span<float> values)
    {
        int row = RowOf(layer, head);
        using Call call = new(this);
        return Decode(row, 1, positions, keys, values);
    }

    /// <summary>The share of attention that each resident page received from the last token of the last committed step.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="queryHead">Query head.</param>
    /// <param name="mass">Receives a number of 0..1 per resident page of the query head's KV head, ascending by position; they sum to 1 as far as no page was dropped since.</param>
    /// <returns>Pages written; 0 where the last step did not attend to this layer, was abandoned, or the sequence was truncated since.</returns>
    /// <exception cref="ArgumentException">The target is too short, or layer or head do not exist.</exception>
    public int PageMass(int layer, int queryHead, Span<float> mass)
    {
        KvGeometry geometry = Cache.Geometry;
        KvCache.ThrowIfOutside(queryHead, geometry.QueryHeads, nameof(queryHead));
        int row = RowOf(layer, queryHead / geometry.GroupSize);
        using Call call = new(this);
        if (!_attended[layer])
        {
            return 0;
        }

        int pages = Table.Count(row);
        KvCache.ThrowIfShorter(mass.Length, pages, nameof(mass));
        TableMap map = Cache.Tier.Map;
        int tableRow = map.Row(Table.Sequence, layer, queryHead / geometry.GroupSize);
        int inGroup = queryHead % geometry.GroupSize;
        Span<int> words = stackalloc int[2];
        lock (Cache.DeviceGate)
        {
            Cache.Tier.Read(map.LogSumExp + ((long)tableRow * geometry.GroupSize) + inGroup, words[..1]);
            float logSumExp = MemoryMarshal.Cast<int, float>(words)[0];
            for (int entry = 0; entry < pages; entry++)
            {
                Cache.Tier.Read(map.StatsWord(tableRow, Table.PageIndex(row, entry)) + (2 * inGroup), words);
                ReadOnlySpan<float> stats = MemoryMarshal.Cast<int, float>(words);
                mass[entry] = stats[1] == 0 ? 0 : stats[1] * MathF.Exp(stats[0] - logSumExp);
            }
        }

        return pages;
    }

    private int RowOf(int layer, int head)
    {
        KvCache.ThrowIfOutside(layer, Cache.Geometry.Layers, nameof(layer));
        KvCache.ThrowIfOutside(head, Cache.Geometry.KvHeads, nameof(head));
        return (layer * Cache.Geometry.KvHeads) + head;
    }

    private int PositionsOf(int row, Span<int> positions)
    {
        int tokens = Table.ResidentTokens(row);
        KvCache.ThrowIfShorter(positions.Length, tokens, nameof(positions));
        int written = 0;
        for (int entry = 0; entry < Table.Count(row); entry++)
        {
            written += Table.PositionsOf(row, entry, positions[written..]);
        }

        return tokens;
    }

    private int Decode(int firstRow, int heads, Span<int> positions, Span<float> keys, Span<float> values)
    {
        int tokens = positions.IsEmpty ? Table.ResidentTokens(firstRow) : PositionsOf(firstRow, positions);
        keys = TargetFor(keys, tokens * heads, Cache.Geometry.KeyWidth, nameof(keys));
        values = TargetFor(values, tokens * heads, Cache.Geometry.ValueWidth, nameof(values));
        Span<PageRead> reads = stackalloc PageRead[ReadsAtOnce];
        int pending = 0;
        lock (Cache.DeviceGate)
        {
            for (int head = 0; head < heads; head++)
            {
                int row = firstRow + head;
                int vector = head;
                for (int entry = 0; entry < Table.Count(row); entry++)
                {
                    int count = Table.TokensIn(row, entry);
                    reads[pending++] = new PageRead(Table.Slot(row, entry), Table.PageClass(row, entry), count, vector, heads);
                    vector += count * heads;
                    if (pending == reads.Length)
                    {
                        Cache.Tier.Materialize(reads, keys, values);
                        pending = 0;
                    }
                }
            }

            Cache.Tier.Materialize(reads[..pending], keys, values);
        }

        return tokens;
    }

    private static Span<float> TargetFor(Span<float> target, int vectors, int width, string name)
    {
        if (target.IsEmpty)
        {
            return target;
        }

        KvCache.ThrowIfShorter(target.Length, vectors * width, name);
        return target[..(vectors * width)];
    }
}
