namespace KvCacheGpu.Tests;

/// <summary>The parts of a group learn the scales of their own rows: the same as one cache of the whole model does.</summary>
public sealed class GroupScalesTests
{
    [Theory]
    [InlineData("1 shard")]
    [InlineData("2 shards")]
    [InlineData("4 shards")]
    [InlineData("2 layers")]
    [InlineData("uneven")]
    public void A_group_learns_what_one_cache_learns_and_seals_the_same_pages(string tiling)
    {
        KvCacheOptions options = TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.I8));
        using var cache = new KvCache(TestGroups.Model, options);
        using KvCacheGroup group = TestGroups.Make(tiling, options);
        using KvSequence whole = cache.CreateSequence();
        using KvGroupSequence sequence = group.CreateSequence();
        Assert.Null(group.KeyScales);
        for (int first = 0; first < 60; first += 20)
        {
            int[] ids = [.. Enumerable.Range(first, 20)];
            Assert.Equal(Feed(whole, ids), Feed(sequence, ids));
        }

        Assert.False(cache.KeyScales!.IsNone);
        Assert.Equal(cache.KeyScales.Exponents, group.KeyScales!.Exponents);
        Assert.Equal(TestGroups.Bytes(whole), TestGroups.Bytes(sequence));
        Assert.Contains(TestGroups.Pages(sequence)[0], page => page.Formats.Key == PageFormat.T4);
    }

    [Fact]
    public void Given_scales_are_divided_among_the_parts_and_replaced_in_all_of_them()
    {
        KvGeometry model = TestGroups.Model;
        byte[] exponents = [.. Enumerable.Range(0, model.Layers * model.KvHeads * model.KeyWidth).Select(i => (byte)(i % 5))];
        KvCacheOptions options = TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.V4));
        options.KeyScales = new KvKeyScales(model, exponents);
        using KvCacheGroup group = TestGroups.Make("2 x 2", options);
        Assert.Equal(exponents, group.KeyScales!.Exponents.ToArray());
        group.ReplaceKeyScales(KvKeyScales.None(model));
        Assert.True(group.KeyScales!.IsNone);
        group.ReplaceKeyScales(null);
        Assert.Null(group.KeyScales);
        Assert.Throws<ArgumentException>(() => group.ReplaceKeyScales(KvKeyScales.None(TestCaches.Tiny)));
    }

    [Fact]
    public void A_group_without_T_formats_and_one_that_was_disposed_refuse_other_scales()
    {
        using (KvCacheGroup plain = TestGroups.Make("2 x 2"))
        {
            Assert.Throws<KvUnsupportedException>(() => plain.ReplaceKeyScales(null));
        }

        KvCacheGroup group = TestGroups.Make("2 x 2", TestCaches.Config(new KvFormats(PageFormat.T4, PageFormat.V4)));
        group.Dispose();
        Assert.Throws<ObjectDisposedException>(() => group.ReplaceKeyScales(null));
    }

    private static float[] Feed(KvSequence sequence, int[] ids)
    {
        KvGeometry whole = TestGroups.Model;
        int width = ids.Length * whole.QueryHeads * whole.ValueWidth;
        float[] output = new float[whole.Layers * width];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < whole.Layers; layer++)
        {
            step.Append(layer, OutlierTokens.Keys(whole, layer, ids, 16), OutlierTokens.Values(whole, layer, ids));
            step.Attend(layer, OutlierTokens.Queries(whole, layer, ids, 16), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    private static float[] Feed(KvGroupSequence sequence, int[] ids)
    {
        KvGeometry whole = TestGroups.Model;
        float[] output = new float[whole.Layers * ids.Length * whole.QueryHeads * whole.ValueWidth];
        using KvGroupStep step = sequence.Begin(ids);
        for (int part = 0; part < sequence.Group.Parts.Count; part++)
        {
            KvPart own = sequence.Group.Parts[part].Part;
            int queryHeads = whole.GroupSize * own.Heads.Count;
            for (int layer = own.FirstLayer; layer < own.FirstLayer + own.Layers; layer++)
            {
                float[] mine = new float[ids.Length * queryHeads * whole.ValueWidth];
                step.Append(
                    part, layer, Cut(OutlierTokens.Keys(whole, layer, ids, 16), own.Heads, whole.KvHeads), Cut(OutlierTokens.Values(whole, layer, ids), own.Heads, whole.KvHeads));
                var asked = new HeadRange(whole.GroupSize * own.Heads.Start, queryHeads);
                step.Attend(part, layer, Cut(OutlierTokens.Queries(whole, layer, ids, 16), asked, whole.QueryHeads), mine);
                for (int token = 0; token < ids.Length; token++)
                {
                    int width = queryHeads * whole.ValueWidth;
                    int at = ((((layer * ids.Length) + token) * whole.QueryHeads) + asked.Start) * whole.ValueWidth;
                    mine.AsSpan(token * width, width).CopyTo(output.AsSpan(at));
                }
            }
        }

        step.Commit();
        return output;

        float[] Cut(float[] all, HeadRange heads, int ofHeads) => TestGroups.Cut(all, ids.Length, heads.Start, heads.Count, ofHeads);
    }
}
