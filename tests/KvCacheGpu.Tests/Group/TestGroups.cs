namespace KvCacheGpu.Tests;

/// <summary>Groups of caches on the host, and steps over them that know the whole model's tensors alone.</summary>
internal static class TestGroups
{
    /// <summary>A model that 1, 2 and 4 shards, halves of its layers, and parts of different sizes tile.</summary>
    public static readonly KvGeometry Model = new(layers: 4, queryHeads: 8, kvHeads: 4, keyWidth: 16, pageTokens: 4) { Rope = new KvRope { Theta = 100 } };

    /// <summary>Tilings by name.</summary>
    public static KvCacheGroup Make(string tiling, KvCacheOptions? options = null) => new(Model, options ?? TestCaches.Config(), Tiling(tiling));

    public static IReadOnlyList<KvPart> Tiling(string name) => name switch
    {
        "1 shard" => KvPart.ByHeads(Model, "cpu"),
        "2 shards" => KvPart.ByHeads(Model, "cpu", "cpu"),
        "3 shards" => KvPart.ByHeads(Model, "cpu", "cpu", "cpu"),
        "4 shards" => KvPart.ByHeads(Model, "cpu", "cpu", "cpu", "cpu"),
        "2 layers" => KvPart.ByLayers(Model, "cpu", "cpu"),
        "2 x 2" => KvPart.ByLayersAndHeads(Model, 2, "cpu", "cpu", "cpu", "cpu"),
        "uneven" => [new("cpu", 1, 3, new(1, 3)), new("cpu", 0, 1, new(0, 4)), new("cpu", 1, 3, new(0, 1))],
        _ => throw new ArgumentOutOfRangeException(nameof(name)),
    };

    /// <summary>Bytes that the watermark is a part of.</summary>
    public static long Room(KvCacheGroup group) => group.Caches.Sum(cache => cache.Pressure!.Own.Load()!.Value.Room);

    /// <summary>Sets the watermark so that plans leave so many sealed pages of each row, over all sequences.</summary>
    public static void HoldTo(KvCacheGroup group, int pagesOfRow) =>
        group.Watermark = (double)pagesOfRow * group.Shape.Rows * group.Shape.Classes.Shape.Classes[1].Bytes / Room(group);

    /// <summary>Appends and attends to all layers of tokens whose ids are their content, part by part, and commits.</summary>
    /// <returns><c>[layers][tokens][query heads][value width]</c> of the whole model.</returns>
    public static float[] Feed(this KvGroupSequence sequence, params int[] ids)
    {
        using KvGroupStep step = sequence.Begin(ids);
        float[] output = Run(step, sequence.Group, ids);
        step.Commit();
        return output;
    }

    /// <summary>The same without the commit.</summary>
    public static float[] Run(KvGroupStep step, KvCacheGroup group, int[] ids)
    {
        var output = new float[group.Geometry.Layers * ids.Length * group.Geometry.QueryHeads * group.Geometry.ValueWidth];
        for (int part = 0; part < group.Parts.Count; part++)
        {
            Run(step, group, part, ids, output);
        }

        return output;
    }

    /// <summary>One part's layers alone.</summary>
    public static void Run(KvGroupStep step, KvCacheGroup group, int part, int[] ids, float[] output)
    {
        (KvGeometry whole, KvGroupPart own) = (group.Geometry, group.Parts[part]);
        for (int layer = own.Part.FirstLayer; layer < own.Part.FirstLayer + own.Part.Layers; layer++)
        {
            step.Append(part, layer, Keys(group, part, layer, ids), Values(group, part, layer, ids));
            var mine = new float[ids.Length * own.Geometry.QueryHeads * whole.ValueWidth];
            step.Attend(part, layer, Cut(TokenContent.Queries(whole, layer, ids), ids.Length, whole.GroupSize * own.Part.Heads.Start, own.Geometry.QueryHeads, whole.QueryHeads), mine);
            for (int token = 0; token < ids.Length; token++)
            {
                int width = own.Geometry.QueryHeads * whole.ValueWidth;
                int at = ((((layer * ids.Length) + token) * whole.QueryHeads) + (whole.GroupSize * own.Part.Heads.Start)) * whole.ValueWidth;
                mine.AsSpan(token * width, width).CopyTo(output.AsSpan(at));
            }
        }
    }

    public static float[] Keys(KvCacheGroup group, int part, int layer, int[] ids) =>
        Cut(TokenContent.Keys(group.Geometry, layer, ids), ids.Length, group.Parts[part].Part.Heads.Start, group.Parts[part].Part.Heads.Count, group.Geometry.KvHeads);

    public static float[] Values(KvCacheGroup group, int part, int layer, int[] ids) =>
        Cut(TokenContent.Values(group.Geometry, layer, ids), ids.Length, group.Parts[part].Part.Heads.Start, group.Parts[part].Part.Heads.Count, group.Geometry.KvHeads);

    /// <summary>The same step over one cache of the whole model.</summary>
    public static float[] FeedWhole(this KvSequence sequence, params int[] ids)
    {
        KvGeometry whole = sequence.Cache.Geometry;
        int width = ids.Length * whole.QueryHeads * whole.ValueWidth;
        var output = new float[whole.Layers * width];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < whole.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(whole, layer, ids), TokenContent.Values(whole, layer, ids));
            step.Attend(layer, TokenContent.Queries(whole, layer, ids), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    /// <summary>The page indexes and bytes of every row of a sequence, in the whole model's order.</summary>
    public static IReadOnlyList<(int Page, KvFormats Formats)>[] Pages(KvGroupSequence sequence) =>
        [.. Enumerable.Range(0, sequence.Group.Shape.Rows).Select(row =>
            PagesOf(sequence.Handles[sequence.Group.Shape.PartOf(row)], sequence.Group.Shape.OwnRow(row)))];

    public static IReadOnlyList<(int Page, KvFormats Formats)>[] Pages(KvSequence sequence) =>
        [.. Enumerable.Range(0, sequence.State.Table.Rows).Select(row => PagesOf(sequence, row))];

    /// <summary>The bytes of every page of every row as they lie, without what a page holds beyond its tokens.</summary>
    public static int[][] Bytes(KvGroupSequence sequence) =>
        [.. Enumerable.Range(0, sequence.Group.Shape.Rows).SelectMany(row =>
            BytesOf(sequence.Handles[sequence.Group.Shape.PartOf(row)], sequence.Group.Shape.OwnRow(row)))];

    public static int[][] Bytes(KvSequence sequence) => [.. Enumerable.Range(0, sequence.State.Table.Rows).SelectMany(row => BytesOf(sequence, row))];

    private static IEnumerable<int[]> BytesOf(KvSequence sequence, int row)
    {
        CacheState cache = sequence.Cache.State;
        PageTable table = sequence.State.Table;
        for (int entry = 0; entry < table.Count(row); entry++)
        {
            yield return WordsOf(cache, table, row, entry);
        }
    }

    private static int[] WordsOf(CacheState cache, PageTable table, int row, int entry)
    {
        Kernels.PageLayout layout = cache.Tier.Shape.Classes[table.PageClass(row, entry)];
        int[] words = new int[layout.Bytes / sizeof(int)];
        cache.Reader.Read(table.Slot(row, entry), words);
        PageTokens.ClearBeyond(layout, table.TokensIn(row, entry), isOpen: !table.IsSealed(row, entry), words);
        return words;
    }

    private static IReadOnlyList<(int, KvFormats)> PagesOf(KvSequence sequence, int row)
    {
        PageTable table = sequence.State.Table;
        return [.. Enumerable.Range(0, table.Count(row)).Select(entry =>
            (table.PageIndex(row, entry), sequence.Cache.State.Classes.FormatsOf(table.PageClass(row, entry))))];
    }

    public static float[] Cut(float[] all, int tokens, int firstHead, int heads, int ofHeads)
    {
        int width = all.Length / tokens / ofHeads;
        var cut = new float[tokens * heads * width];
        for (int token = 0; token < tokens; token++)
        {
            all.AsSpan(((token * ofHeads) + firstHead) * width, heads * width).CopyTo(cut.AsSpan(token * heads * width));
        }

        return cut;
    }
}
