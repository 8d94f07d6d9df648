namespace KvCacheGpu.Tests;

/// <summary>A window that gives no byte beyond what it slides over: so that plain lists know what is dropped.</summary>
internal sealed class SlidingOnly : KvPolicy
{
    public SlidingOnly(WindowPolicy window)
    {
        Window = window;
        (SinkTokens, WindowTokens) = (window.SinkTokens, window.WindowTokens);
    }

    public WindowPolicy Window { get; }

    public override bool ActsUnasked => true;

    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state) => Window.Plan(pages, 0, plan, state);

    public override int MostKeptPages(int pageTokens) => Window.MostKeptPages(pageTokens);
}
