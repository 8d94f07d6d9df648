namespace KvCacheGpu.Tests;

/// <summary>A policy that waits inside of a commit until it is let go.</summary>
internal sealed class Rendezvous : KvPolicy
{
    public ManualResetEventSlim Inside { get; } = new();

    public ManualResetEventSlim Leave { get; } = new();

    public override bool ActsUnasked => true;

    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        plan.Clear();
        Inside.Set();
        Leave.Wait();
    }

    public override int MostKeptPages(int pageTokens) => int.MaxValue;
}
