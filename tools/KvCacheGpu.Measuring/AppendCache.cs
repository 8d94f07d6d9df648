using KvCacheGpu.Kernels;

namespace KvCacheGpu.Measuring;

/// <summary>One sequence of one layer, whose pages are written again and again: for append and encode.</summary>
internal sealed unsafe class AppendCache : IDisposable
{
    private const int KvHeads = 8;
    private const int Width = 128;

    private readonly KernelTier _tier;
    private readonly KernelBatch _batch;
    private readonly float[] _keys;
    private readonly float[] _values;
    private readonly PageMove[] _moves;
    private readonly PageMove[] _demotions;

    public AppendCache(string device, int tokens, PageFormat open, PageFormat key = PageFormat.I8, PageFormat value = PageFormat.I8)
        : this((s, b) => KvDevice.CreateTier(device, s, b), tokens, open, key, value)
    {
    }

    /// <summary>Makes the sequence; sealed pages may be demoted to <paramref name="demoted"/>.</summary>
    public AppendCache(
        Func<KernelShape, long, KernelTier> create, int tokens, PageFormat open, PageFormat key = PageFormat.I8, PageFormat value = PageFormat.I8,
        (PageFormat Key, PageFormat Value)? demoted = null)
    {
        var geometry = new KvGeometry(layers: 1, KvHeads, KvHeads, Width);
        var openLayout = new PageLayout(geometry, open, open, hasDigest: false);
        var closed = new PageLayout(geometry, key, value);
        int pages = geometry.PagesFor(tokens);
        PageLayout? lower = demoted is { } pair ? new PageLayout(geometry, pair.Key, pair.Value) : null;
        var shape = new KernelShape(geometry, [openLayout, closed, .. lower is null ? [] : new[] { lower }], rotationSeed: 1, sequences: 1, tableCapacity: pages);
        var map = new TableMap(shape);
        _tier = create(shape, map.Bytes + (map.Leaves * map.LeafBytes) + ((long)KvHeads * pages * (openLayout.Bytes + closed.Bytes + (lower?.Bytes ?? 0))));
        for (int leaf = 0; leaf < map.Leaves; leaf++)
        {
            _tier.OpenLeaf(0, leaf, map.FirstPageUnit + (leaf * map.LeafUnits));
        }

        _batch = _tier.CreateBatch(1, tokens);
        _moves = new PageMove[KvHeads * pages];
        int firstOpen = map.FirstPageUnit + (map.Leaves * map.LeafUnits);
        int firstClosed = firstOpen + (KvHeads * pages * openLayout.Units);
        for (int i = 0; i < _moves.Length; i++)
        {
            (int head, int page) = Math.DivRem(i, pages);
            int slot = firstOpen + (i * openLayout.Units);
            _tier.WriteCount(0, map.Row(0, head), pages);
            _tier.WriteEntry(0, map.Row(0, head), page, slot, TableMap.Tag(KernelShape.Open, page));
            _moves[i] = new PageMove(slot, KernelShape.Open, firstClosed + (i * closed.Units), KernelShape.Sealed, geometry.PageTokens);
        }

        int firstLower = firstClosed + (KvHeads * pages * closed.Units);
        _demotions = lower is null ? [] : [.. _moves.Select((m, i) =>
            new PageMove(m.TargetSlot, KernelShape.Sealed, firstLower + (i * lower.Units), KernelShape.Sealed + 1, geometry.PageTokens))];
        DemoteBytes = (long)_demotions.Length * (closed.Bytes + (lower?.Bytes ?? 0));
        var random = new Random(5);
        _keys = FilledCache.Gaussian(random, tokens * KvHeads * Width);
        _values = FilledCache.Gaussian(random, tokens * KvHeads * Width);
        _batch.Begin([new RaggedSequence(0, 0, tokens, tokens)]);
        AppendBytes = BytesOfAppend(tokens, open);
        EncodeBytes = BytesOfEncode(tokens, open, key, value);
    }

    /// <summary>Bytes that one append of so many tokens reads, in F32, and writes.</summary>
    public static long BytesOfAppend(int tokens, PageFormat open) => (long)tokens * KvHeads * Width * 2 * (sizeof(float) + (open == PageFormat.F32 ? 4 : 2));

    /// <summary>Bytes that one encode of the pages of so many tokens reads and writes.</summary>
    public static long BytesOfEncode(int tokens, PageFormat open, PageFormat key, PageFormat value)
    {
        var geometry = new KvGeometry(layers: 1, KvHeads, KvHeads, Width);
        return (long)KvHeads * geometry.PagesFor(tokens) * (new PageLayout(geometry, open, open, hasDigest: false).Bytes + new PageLayout(geometry, key, value).Bytes);
    }

    public string TierName => _tier.Name;

    /// <summary>The launches of the sequence's only step.</summary>
    public KernelBatch Batch => _batch;

    /// <summary>keys[tokens][heads][width] of the step.</summary>
    public float[] Keys => _keys;

    /// <summary>values[tokens][heads][width] of the step.</summary>
    public float[] Values => _values;

    /// <summary>Bytes that one append reads and writes.</summary>
    public long AppendBytes { get; }

    /// <summary>Bytes that one encode reads and writes.</summary>
    public long EncodeBytes { get; }

    /// <summary>Bytes that one demotion of all pages reads and writes.</summary>
    public long DemoteBytes { get; }

    public void Append()
    {
        _batch.Append(0, _keys, _values);
        _batch.End();
    }

    public void Encode()
    {
        EnqueueEncode();
        Wait();
    }

    /// <summary>The same without waiting for the device.</summary>
    public void EnqueueEncode() => _tier.Transcode(_moves);

    /// <summary>Demotes all pages, once they have been encoded, without waiting for the device.</summary>
    public void EnqueueDemote() => _tier.Transcode(_demotions);

    public void Wait() => _tier.Synchronize();

    public void Dispose()
    {
        _batch.Dispose();
        _tier.Dispose();
    }
}
