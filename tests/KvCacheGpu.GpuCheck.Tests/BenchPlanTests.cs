using KvCacheGpu.Measuring;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>What a GPU is measured by, and in which order.</summary>
public sealed class BenchPlanTests
{
    private static readonly AttendRow[] _decode = [.. BenchPlan.Gpu().OfType<AttendRow>().Where(r => r.Shape.QueryTokens == 1)];
    private static readonly AttendRow[] _prefill = [.. BenchPlan.Gpu().OfType<AttendRow>().Where(r => r.Shape.QueryTokens > 1)];

    [Fact]
    public void The_rows_that_the_targets_are_stated_for_come_first()
    {
        Assert.Equal(
            ["attend 32 x 8k d128 GQA 4 F16", "attend 32 x 8k d128 GQA 4 I8", "attend 32 x 8k d128 GQA 4 T4/V4", "attend 32 x 8k d128 GQA 4 T2/V2"],
            BenchPlan.Gpu().Take(4).Select(r => r.Name));
        Assert.Equal([0.9, 0.85, 0.75, 0.6], _decode.Take(4).Select(r => r.Target));
        Assert.All(BenchPlan.Gpu().Take(4), r => Assert.Equal("copy", r.Of));

        // A row that differs in one thing alone comes before all that differ in two.
        int last = Array.FindLastIndex(_decode, r => Differences(r) == 1);
        Assert.Equal(-1, Array.FindIndex(_decode, 0, last, r => Differences(r) > 1));
    }

    [Fact]
    public void Decode_covers_contexts_batches_heads_widths_and_formats_with_one_another()
    {
        string[] formats = ["F16", "I8", "T4/V4", "T2/V2", "BF16", "FP8", "T3/V3"];
        foreach (string format in formats)
        {
            AttendRow[] rows = [.. _decode.Where(r => new FormatPair(r.Shape.Key, r.Shape.Value).ToString() == format)];
            foreach ((int context, int batch) in from c in new[] { 1024, 8192, 32768, 131072 } from b in new[] { 1, 32, 256 } where c < 131072 || b < 256 select (c, b))
            {
                Assert.Equal(6, rows.Where(r => r.Shape.Context == context && r.Shape.Sequences == batch).Select(r => (r.Shape.GroupSize, r.Shape.Width)).Distinct().Count());
            }
        }

        Assert.Equal(_decode.Length, _decode.Select(r => r.Name).Distinct().Count());
        Assert.All(_decode, r => Assert.InRange(r.Shape.PageBytes, 1, 5L << 30));
    }

    [Fact]
    public void Chunks_append_encode_and_transcode_have_their_rows_and_targets()
    {
        Assert.Equal(
            [(512, 0), (512, 8192), (512, 32768), (4096, 0), (4096, 8192), (4096, 32768)],
            _prefill.Where(r => r.Shape is { Key: PageFormat.F16, Precision: KvAttentionPrecision.Exact }).Select(r => (r.Shape.QueryTokens, r.Shape.Context - r.Shape.QueryTokens)).Order());
        Assert.All(_prefill, r => Assert.Equal((r.Shape.Precision == KvAttentionPrecision.Fast ? 0.35 : 0.18, "mma"), (r.Target, r.Of)));
        Assert.Equal(_prefill.Length, 2 * _prefill.Count(r => r.Shape.Precision == KvAttentionPrecision.Fast));
        Assert.All(BenchPlan.Gpu().OfType<AppendRow>(), r => Assert.Equal(r.Tokens == 32768 ? 0.7 : 0, r.Target));
        Assert.Equal(["I8", "T4/V4", "T2/V2", "FP8", "T3/V3"], BenchPlan.Gpu().OfType<EncodeRow>().Where(r => r.Tokens == 32768 && r.Lower is null).Select(r => $"{r.To}"));
        Assert.Contains(BenchPlan.Gpu(), r => r.Name == "transcode 32768 tokens x 8 heads d128 I8 to T4/V4");
    }

    /// <summary>A launch takes longer than what a short sequence's bytes take: it has no target. Many short ones have a tenth less.</summary>
    [Fact]
    public void Targets_are_set_where_memory_binds()
    {
        Assert.Equal(0, Single("attend 1 x 1k d128 GQA 4 F16").Target);
        Assert.Equal(0.81, Single("attend 256 x 1k d128 GQA 4 F16").Target, 6);
        Assert.Equal(0.9, Single("attend 1 x 32k d128 GQA 4 F16").Target);
    }

    /// <summary>Causal: the queries of a chunk see the tokens before it, and of the chunk those up to their own.</summary>
    [Fact]
    public void Operations_are_those_of_the_tokens_that_each_query_sees()
    {
        AttendRow chunk = _prefill.First(r => r.Shape is { QueryTokens: 512, Context: 512 });
        double seen = Enumerable.Range(1, 512).Sum();
        Assert.Equal(4.0 * 128 * 32 * seen, chunk.Shape.Operations, 1);
        Assert.Equal(4.0 * 128 * 32 * 32 * 8192, _decode[0].Shape.Operations, 1);
    }

    private static AttendRow Single(string name) => _decode.Single(r => r.Name == name);

    private static int Differences(AttendRow row) =>
        (row.Shape.Context == 8192 ? 0 : 1) + (row.Shape.Sequences == 32 ? 0 : 1) + (row.Shape.GroupSize == 4 ? 0 : 1) + (row.Shape.Width == 128 ? 0 : 1)
        + (row.Shape.Key is PageFormat.F16 or PageFormat.I8 or PageFormat.T4 or PageFormat.T2 ? 0 : 1);
}
