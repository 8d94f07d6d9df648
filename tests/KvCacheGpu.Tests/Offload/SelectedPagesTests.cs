using static KvCacheGpu.Tests.OffloadCaches;

namespace KvCacheGpu.Tests;

/// <summary>Of more pages in host memory than an attention may read, those that its queries ask for.</summary>
public sealed class SelectedPagesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("selected-").FullName;

    /// <summary>Each page has keys along a direction of its own, and queries ask along one: the page that they ask for is found, whatever the format.</summary>
    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16)]
    [InlineData(PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    [InlineData(PageFormat.T2, PageFormat.V2)]
    public void Of_more_pages_than_fit_those_are_read_that_the_queries_ask_for(PageFormat key, PageFormat value)
    {
        const int pages = 40;
        KvCacheOptions options = Offloading(Flat, "lru", new KvFormats(key, value), 600, stagedPages: 4);
        options.Offload = options.Offload! with { SelectedPages = 1 };
        options.KeyScales = null;
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => TestCaches.Simd(g, o), Flat) + 20_000;
        using KvCache cache = TestCaches.Simd(Flat, options);
        KvCacheOptions plain = Plain(Flat, new KvFormats(key, value), 600);
        plain.KeyScales = null;
        using KvCache whole = TestCaches.Simd(Flat, plain);
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        for (int page = 0; page < pages; page++)
        {
            int[] ids = [.. Enumerable.Range(page * Flat.PageTokens, Flat.PageTokens)];
            Directed(expected, ids, page, page);
            Directed(sequence, ids, page, page);
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts.Pages > 6 * 25 && counts.Dropped == 0, $"{counts}");
        foreach (int asked in (int[])[3, 11, 20, 7])
        {
            float[] full = Directed(expected, [5000], pages, asked);
            float[] selected = Directed(sequence, [5000], pages, asked);
            double error = Math.Sqrt(full.Zip(selected, (x, y) => Math.Pow(x - y, 2)).Sum() / full.Sum(x => x * x));
            Assert.True(error < 1e-3, $"page {asked}: off by {error}");
        }

        Assert.True(cache.GetOffloadCounts().LeftOut > 0);
    }

    /// <summary>
    /// Keys that differ from each other only at random, so that pages have one mean and one deviation: a page is found by the one key that a query asks for. Also after the sequence was swapped out, saved and loaded.
    /// </summary>
    [Theory]
    [InlineData("cpu", PageFormat.F16, PageFormat.F16)]
    [InlineData("cpu", PageFormat.I8, PageFormat.V4)]
    [InlineData("cpu", PageFormat.T4, PageFormat.V4)]
    [InlineData("ilgpu-cpu", PageFormat.F32, PageFormat.F32)]
    [InlineData("ilgpu-cpu", PageFormat.T3, PageFormat.V3)]
    public async Task A_page_is_found_by_one_key_among_its_others(string device, PageFormat key, PageFormat value)
    {
        var formats = new KvFormats(key, value);
        KvCacheOptions options = Offloading(Flat, "lru", formats, 400, stagedPages: 8);
        (options.Device, options.Offload) = (device, options.Offload! with { SelectedPages = 2 });
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => new KvCache(g, o), Flat) + 30_000;
        using var cache = new KvCache(Flat, options);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, formats, 400));
        KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        for (int token = 0; token < 240; token += 8)
        {
            int[] ids = [.. Enumerable.Range(token, 8)];
            Asking(sequence, ids, token);
            Asking(expected, ids, token);
        }

        Assert.True(cache.GetOffloadCounts().Pages > 6 * 10, $"{cache.GetOffloadCounts()}");
        Find(sequence, expected, 1000);
        using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        sequence = Assert.Single(await cache.SwapInAsync(swapped));
        Find(sequence, expected, 1100);
        var store = new SnapshotStore(_folder);
        sequence.Name = "a";
        await cache.SaveAsync(store, "s");
        sequence.Dispose();
        using KvSequence again = Assert.Single((await cache.LoadAsync(store, "s")).Sequences);
        Assert.True(cache.GetOffloadCounts().Pages > 6 * 10, $"{cache.GetOffloadCounts()}");
        Find(again, expected, 1200);
    }

    /// <summary>A page for each token of a step: many tokens ask for all pages, as a prompt's do, and get them in rounds.</summary>
    [Fact]
    public void A_step_of_many_tokens_reads_all_pages()
    {
        KvCacheOptions options = Offloading(Flat, "lru", new KvFormats(PageFormat.F16, PageFormat.F16), 600, stagedPages: 8);
        options.Offload = options.Offload! with { SelectedPages = 2 };
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => TestCaches.Simd(g, o), Flat) + 30_000;
        using KvCache cache = TestCaches.Simd(Flat, options);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, new KvFormats(PageFormat.F16, PageFormat.F16), 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        for (int token = 0; token < 320; token += 32)
        {
            int[] ids = [.. Enumerable.Range(token, 32)];
            AreClose(Step(expected, ids), Step(sequence, ids));
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { LeftOut: 0 } && counts.Pages > 6 * 8, $"{counts}");
        Step(sequence, [400]);
        Assert.True(cache.GetOffloadCounts().LeftOut > 0);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // Tokens of pages that went to host memory long ago, of different pages, first and last tokens of them too.
    private static void Find(KvSequence sequence, KvSequence expected, int id)
    {
        foreach (int asked in (int[])[43, 8, 71, 100])
        {
            float[] full = Asking(expected, [id++], asked);
            float[] selected = Asking(sequence, [id - 1], asked);
            double error = Math.Sqrt(full.Zip(selected, (x, y) => Math.Pow(x - y, 2)).Sum() / full.Sum(x => x * x));
            Assert.True(error < 2e-3, $"token {asked}: off by {error}");
        }
    }

    // A key of random signs for each token and row, and queries that ask for the key of one token: its logit is 22 above those of others.
    private static float[] Asking(KvSequence sequence, int[] ids, int asked)
    {
        KvGeometry g = sequence.Cache.Geometry;
        int width = ids.Length * g.QueryHeads * g.ValueWidth;
        float[] output = new float[g.Layers * width];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            float[] keys = [.. ids.SelectMany(id => Enumerable.Range(0, g.KvHeads).SelectMany(head => Signs(id, layer, head, g.KeyWidth)))];
            float[] queries = [.. ids.SelectMany(_ => Enumerable.Range(0, g.QueryHeads).SelectMany(head => Signs(asked, layer, head / g.GroupSize, g.KeyWidth)))];
            step.Append(layer, keys, TokenContent.Values(g, layer, ids));
            step.Attend(layer, queries, output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    private static float[] Signs(int id, int layer, int head, int width)
    {
        var random = new Random((id * 97) + (layer * 11) + head);
        return [.. Enumerable.Range(0, width).Select(_ => random.Next(2) == 0 ? -2f : 2f)];
    }
}
