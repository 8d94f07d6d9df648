using Microsoft.Playwright;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>A page in a browser without a window. What goes wrong in it is noted.</summary>
internal sealed class Browser(IPlaywright playwright, IBrowser browser, IPage page, List<string> errors) : IAsyncDisposable
{
    public IPage Page => page;

    public IReadOnlyList<string> Errors => errors;

    public static async Task<Browser> OpenAsync(Uri address)
    {
        IPlaywright playwright = await Playwright.CreateAsync();
        IBrowser browser = await playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions
        {
            ExecutablePath = Environment.GetEnvironmentVariable(BrowserFactAttribute.Variable),
            Args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        });
        IPage page = await browser.NewPageAsync(new BrowserNewPageOptions { ViewportSize = new ViewportSize { Width = 1200, Height = 1000 } });

        // A machine may be busy: what takes long is no fault of the page.
        page.SetDefaultTimeout(120_000);
        Assertions.SetDefaultExpectTimeout(120_000);
        List<string> errors = [];
        page.Console += (_, message) =>
        {
            if (message.Type == "error")
            {
                errors.Add($"{message.Location}: {message.Text}");
            }
        };
        page.PageError += (_, error) => errors.Add(error);
        page.RequestFailed += (_, request) =>
        {
            if (!request.Url.Contains("live/events", StringComparison.Ordinal))
            {
                errors.Add($"{request.Url} failed");
            }
        };
        page.Request += (_, request) =>
        {
            // Everything comes from the server itself.
            if (!request.Url.StartsWith(address.ToString(), StringComparison.Ordinal))
            {
                errors.Add($"{request.Url} was asked for");
            }
        };
        await page.GotoAsync(address.ToString());
        return new Browser(playwright, browser, page, errors);
    }

    public async ValueTask DisposeAsync()
    {
        await browser.CloseAsync();
        playwright.Dispose();
    }
}
