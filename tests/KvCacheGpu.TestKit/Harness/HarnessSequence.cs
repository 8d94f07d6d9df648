namespace KvCacheGpu.TestKit;

/// <summary>One live entry of a table row.</summary>
public readonly record struct PageEntry(int PageIndex, int PageClass, int Slot);

/// <summary>A sequence in a <see cref="TierHarness"/>: its data, its length, and its rows.</summary>
public sealed class HarnessSequence
{
    internal HarnessSequence(int slot, SequenceData data, KvGeometry geometry)
    {
        (Slot, Data) = (slot, data);
        Rows = new List<PageEntry>[geometry.Layers, geometry.KvHeads];
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            for (int head = 0; head < geometry.KvHeads; head++)
            {
                Rows[layer, head] = [];
            }
        }
    }

    /// <summary>Its slot in the tables.</summary>
    public int Slot { get; }

    /// <summary>The keys, values and queries of its tokens.</summary>
    public SequenceData Data { get; }

    /// <summary>The table of key scales that its T pages are under.</summary>
    public int KeyTable { get; set; }

    /// <summary>Number of tokens appended, those of a step under way included.</summary>
    public int Length { get; internal set; }

    /// <summary>Entries by [layer, KV head], ascending by page index.</summary>
    public List<PageEntry>[,] Rows { get; }

    /// <summary>Slots of its open leaves, by leaf.</summary>
    public List<int> Leaves { get; } = [];

    /// <summary>Slots of open pages that cannot be sealed because no sealed class can hold them.</summary>
    public HashSet<int> Kept { get; } = [];

    /// <summary>Every (layer, KV head).</summary>
    public IEnumerable<(int Layer, int Head)> LayerHeads =>
        from layer in Enumerable.Range(0, Rows.GetLength(0))
        from head in Enumerable.Range(0, Rows.GetLength(1))
        select (layer, head);
}
