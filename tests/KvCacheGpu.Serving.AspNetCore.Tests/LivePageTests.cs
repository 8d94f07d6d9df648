using System.Globalization;
using System.Text.Json;
using Microsoft.Playwright;
using static KvCacheGpu.Serving.AspNetCore.Tests.LimitTests;
using static KvCacheGpu.Serving.AspNetCore.Tests.TestServer;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>The live page in a real browser shows what the metrics and the page table say.</summary>
public class LivePageTests
{
    private const int PageTokens = 64;

    // What a class of cells looks like: the colour of its entry in the legend.
    private const string LegendColours = "() => Object.fromEntries([...document.querySelectorAll('#legend li')].map(li => [li.dataset.name, getComputedStyle(li.querySelector('.swatch')).backgroundColor]))";

    // The colour in the middle of each cell, by rows.
    private const string CellColours = """
        () => {
          const canvas = document.getElementById('map'), context = canvas.getContext('2d');
          const [w, h, gap] = ['cellWidth', 'cellHeight', 'gap'].map(name => Number(canvas.dataset[name]));
          const rows = [...document.querySelectorAll('#cells tr')], heads = 2;
          return rows.map((row, r) => [...row.querySelectorAll('td')].map((_, p) => {
            const pixel = context.getImageData((p * w) + (w >> 1) - 1, (r * h) + (Math.floor(r / heads) * gap) + (h >> 1) - 1, 1, 1).data;
            return `rgb(${pixel[0]}, ${pixel[1]}, ${pixel[2]})`;
          }));
        }
        """;

    [BrowserFact]
    public async Task Its_numbers_are_those_of_the_metrics_and_its_map_is_the_page_table()
    {
        await using TestServer server = await StartAsync(options => options.LiveInterval = TimeSpan.FromMilliseconds(100), Tight);
        await using Browser browser = await Browser.OpenAsync(server.Address);
        IPage page = browser.Page;
        await server.PostAsync("v1/completions", Completion("In the beginning", 40, new { n = 3 }));
        await server.PostAsync("v1/completions", Completion(string.Join(' ', Enumerable.Repeat("And it came to pass", 40)), 5));
        await Until(async () => await Stat(page, "ended") == 2);
        await page.Locator("#pause").ClickAsync();
        Dictionary<string, double> metrics = await Metrics(server);
        Assert.Equal(metrics["kvcache_serving_tokens_total{kind=\"answer\"}"], await Stat(page, "new_tokens"));
        Assert.Equal(metrics["kvcache_serving_tokens_total{kind=\"prompt\"}"], await Stat(page, "prompt_tokens"));
        Assert.Equal(metrics["kvcache_serving_tokens_total{kind=\"reused\"}"], await Stat(page, "hit_rate"));
        Assert.Equal(metrics["kvcache_serving_requests_total{finish=\"length\"}"], await Stat(page, "ended"));
        double used = metrics.Where(one => one.Key.StartsWith("kvcache_memory_usage_bytes", StringComparison.Ordinal) && one.Key.Contains("kvcache_tier=\"device\"", StringComparison.Ordinal)).Sum(one => one.Value);
        Assert.Equal(used, double.Parse((await page.Locator("#memory").GetAttributeAsync("data-value"))!, CultureInfo.InvariantCulture));
        double pages = metrics.Where(one => one.Key.StartsWith("kvcache_pages{", StringComparison.Ordinal)).Sum(one => one.Value);
        Assert.Equal(pages, await page.Locator("#formats tr").EvaluateAllAsync<double>("rows => rows.reduce((sum, row) => sum + Number(row.dataset.open) + Number(row.dataset.sealed), 0)"));
        await page.Locator("#pause").ClickAsync();

        server.Gate.Delay = TimeSpan.FromMilliseconds(15);
        Task<JsonElement> running = server.PostAsync("v1/completions", Completion(Enumerable.Range(0, 1500).Select(i => 2 + (i * 7 % 1000)).ToArray(), 2000), System.Net.HttpStatusCode.ServiceUnavailable);
        await page.Locator("#map-table summary").ClickAsync();
        (int gone, int compressed) before = await MapIsPageTable(server, page, atLeast: 1600);
        ILocator watermark = page.Locator("#watermark");
        Assert.Equal(Math.Round(server.Cache.Watermark * 100).ToString(CultureInfo.InvariantCulture), await watermark.InputValueAsync());
        await watermark.FocusAsync();
        while (int.Parse(await watermark.InputValueAsync(), CultureInfo.InvariantCulture) >= 35)
        {
            await page.Keyboard.PressAsync("PageDown");
        }

        await Until(() => Task.FromResult(server.Cache.Watermark < .35));
        int length = (await server.Scheduler.GetStatusAsync()).Answers.Single().ComputedTokens;
        (int gone, int compressed) after = await MapIsPageTable(server, page, atLeast: length + 130);
        Assert.True(after.gone + after.compressed > before.gone + before.compressed + 20, $"{before} before the slider moved, {after} after");
        Assert.InRange(server.Cache.GetOffloadCounts().Pages, 1, 40);
        foreach (string colour in new[] { "tier", "mass" })
        {
            await page.Locator($"input[value={colour}]").CheckAsync();
            await MapIsPageTable(server, page, atLeast: length + 130);
        }

        if (Environment.GetEnvironmentVariable("KVCACHE_TEST_SCREENSHOT") is { Length: > 0 } file)
        {
            await Photograph(page, file);
        }

        Assert.Empty(browser.Errors);
        await server.Scheduler.DrainAsync(TimeSpan.Zero);
        await running;
    }

    [BrowserFact]
    public async Task It_is_used_by_keyboard_asks_for_a_key_and_can_be_read()
    {
        await using TestServer server = await StartAsync(options => (options.ApiKeys, options.LiveInterval) = (Keys(), TimeSpan.FromMilliseconds(100)));
        server.Gate.Delay = TimeSpan.FromMilliseconds(15);
        Task<JsonElement> own = server.PostAsync("v1/completions", Completion("And", 3000), System.Net.HttpStatusCode.ServiceUnavailable, "key-of-a");
        Task<JsonElement> other = server.PostAsync("v1/completions", Completion("And", 3000), System.Net.HttpStatusCode.ServiceUnavailable, "key-of-b");
        await using Browser browser = await Browser.OpenAsync(server.Address);
        IPage page = browser.Page;
        await Assertions.Expect(page.Locator("#key")).ToBeFocusedAsync();
        await page.Keyboard.TypeAsync("wrong");
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(page.Locator("#login-error")).Not.ToBeEmptyAsync();
        await page.Locator("#key").FillAsync("key-of-a");
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(page.Locator("#state")).ToHaveTextAsync("live");
        await Assertions.Expect(page.Locator("#answers tr")).ToHaveCountAsync(1);
        await Assertions.Expect(page.Locator("#answers td:nth-child(2)")).ToHaveTextAsync("a");
        await Assertions.Expect(page.Locator("#watermark")).ToBeDisabledAsync();
        await page.Locator("#map").FocusAsync(); // The map itself may come later.
        await Assertions.Expect(page.Locator("#cell")).ToContainTextAsync("Layer 0, KV head 0, tokens 0 to");
        await page.Keyboard.PressAsync("ArrowDown");
        await Assertions.Expect(page.Locator("#cell")).ToContainTextAsync("Layer 0, KV head 1, tokens 0 to");

        // Every control has a name, and every text is told apart from its ground, in light and dark.
        Assert.Equal(0, await page.EvaluateAsync<int>("() => [...document.querySelectorAll('input, button')].filter(one => !one.labels?.length && one.textContent.trim() === '' && !one.ariaLabel).length"));
        foreach (ColorScheme scheme in new[] { ColorScheme.Light, ColorScheme.Dark })
        {
            await page.EmulateMediaAsync(new PageEmulateMediaOptions { ColorScheme = scheme });
            Assert.Empty(await page.EvaluateAsync<string[]>(LowContrast));
        }

        await server.Scheduler.DrainAsync(TimeSpan.Zero);
        await Task.WhenAll(own, other);

        // The browser tells of each answer 401; nothing else is wrong.
        Assert.All(browser.Errors, error => Assert.Contains("401", error, StringComparison.Ordinal));
    }

    // Texts whose contrast to the ground beneath them is below 4.5 (WCAG 2.2, 1.4.3).
    private const string LowContrast = """
        () => {
          const parts = text => (text.match(/[\d.]+/g) ?? []).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + (c * [.2126, .7152, .0722][i]), 0);
          const ground = one => { for (; one; one = one.parentElement) { const color = parts(getComputedStyle(one).backgroundColor); if (color.length === 3 || color[3] > 0) { return color; } } return [255, 255, 255]; };
          return [...document.querySelectorAll('body *')].filter(one => !one.disabled && one.checkVisibility() && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim() !== '')).map(one => {
            const [a, b] = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
            return [(a + .05) / (b + .05), one.outerHTML.slice(0, 80)];
          }).filter(([ratio]) => ratio < 4.5).map(String);
        }
        """;

    // Pauses the page, and compares what it shows with the sequence's pages at the same length.
    private static async Task<(int Gone, int Compressed)> MapIsPageTable(TestServer server, IPage page, int atLeast)
    {
        while (true)
        {
            await Until(async () => await Length(page) >= atLeast);
            await page.Locator("#pause").ClickAsync();
            int length = await Length(page);
            KvAnswerStatus answer = (await server.Scheduler.GetStatusAsync()).Answers.Single();
            (int Length, KvPageInfo[][] Rows) table = await server.Scheduler.ReadAsync(answer.Id, 0, Table);
            string[][] cells = await page.EvaluateAsync<string[][]>("() => [...document.querySelectorAll('#cells tr')].map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))");
            string[][] colours = await page.EvaluateAsync<string[][]>(CellColours);
            Dictionary<string, string> legend = await page.EvaluateAsync<Dictionary<string, string>>(LegendColours);
            string mode = await page.Locator("input[name=colour]:checked").InputValueAsync();
            await page.Locator("#pause").ClickAsync();

            // While the page was stopped the sequence went on: a step or two change the table where a page is sealed or dropped alone.
            if (table.Length / PageTokens != length / PageTokens || length % PageTokens < 20 || table.Length % PageTokens > 60)
            {
                continue;
            }

            Assert.Equal(8, cells.Length);
            foreach ((int row, KvPageInfo[] pages) in table.Rows.Index())
            {
                Assert.Equal(pages.Length, cells[row].Length);
                foreach ((int i, KvPageInfo one) in pages.Index())
                {
                    string text = one.Place == KvPagePlace.Gone ? "gone" : one.Formats!.Value.ToString();
                    Assert.StartsWith(text, cells[row][i], StringComparison.Ordinal);
                    Assert.Equal(one.Place == KvPagePlace.Host, cells[row][i].Contains(" host", StringComparison.Ordinal));
                    string name = one.Place == KvPagePlace.Gone ? "gone" : mode != "tier" ? text : one.Place == KvPagePlace.Device ? "on the device" : "in host memory";
                    if (mode != "mass" || name == "gone")
                    {
                        Assert.Equal(legend[name], colours[row][i]);
                    }
                }
            }

            KvPageInfo[] all = [.. table.Rows.SelectMany(row => row)];
            return (all.Count(one => one.Place == KvPagePlace.Gone), all.Count(one => one.Formats is { Key: PageFormat.T4 }));
        }
    }

    private static (int Length, KvPageInfo[][] Rows) Table(KvSequence sequence) =>
        (sequence.Length, [.. Enumerable.Range(0, 8).Select(row => sequence.ReadPages(row / 2, row % 2).ToArray())]);

    private static void Tight(KvCacheOptions options)
    {
        (options.Policy, options.DemotionFormats) = (KvPolicies.TryParse("adaptive", out KvPolicy? policy) ? policy : null, [new KvFormats(PageFormat.T4, PageFormat.V4)]);
        (options.MaxTokens, options.MemoryBudgetPercent, options.PlanEvery) = (4096, 100, 64);

        // Room for 40 pages in host memory.
        options.Offload = new KvOffload(40 * 16_384);
    }

    private static async Task Photograph(IPage page, string file)
    {
        await page.Locator("input[value=format]").CheckAsync();
        await page.Locator("#map-table summary").ClickAsync();
        await page.SetViewportSizeAsync(1100, 900);
        await page.WaitForTimeoutAsync(1000);
        await page.ScreenshotAsync(new PageScreenshotOptions { Path = file, FullPage = true });
    }

    private static async Task<double> Stat(IPage page, string name) =>
        double.TryParse(await page.Locator($"[data-stat='{name}']").GetAttributeAsync("data-value"), NumberStyles.Float, CultureInfo.InvariantCulture, out double value) ? value : -1;

    private static async Task<int> Length(IPage page) => int.TryParse(await page.Locator("#map-text").GetAttributeAsync("data-length"), NumberStyles.None, CultureInfo.InvariantCulture, out int length) ? length : 0;

    // Numbers by name and own labels, those of scopes and of the cache's name left out.
    private static async Task<Dictionary<string, double>> Metrics(TestServer server)
    {
        using HttpClient client = server.Client();
        string text = await client.GetStringAsync(new Uri("metrics", UriKind.Relative));
        Dictionary<string, double> read = [];
        foreach (string line in text.Split('\n').Where(line => line.Length > 0 && line[0] != '#' && !line.Contains("_bucket{", StringComparison.Ordinal)))
        {
            int end = line.LastIndexOf('}') + 1;
            string[] labels = [.. line[(line.IndexOf('{', StringComparison.Ordinal) + 1)..(end - 1)].Split(',').Where(label => !label.StartsWith("otel_", StringComparison.Ordinal) && !label.StartsWith("kvcache_name=", StringComparison.Ordinal))];
            read[$"{line[..line.IndexOf('{', StringComparison.Ordinal)]}{{{string.Join(',', labels)}}}"] = double.Parse(line[end..].Trim().Split(' ')[0], CultureInfo.InvariantCulture);
        }

        return read;
    }
}
