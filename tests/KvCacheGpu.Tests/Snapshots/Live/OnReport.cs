namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Does something at every report, on the thread that reports.</summary>
internal sealed class OnReport(Action action) : IProgress<SnapshotProgress>
{
    public int Reports { get; private set; }

    public void Report(SnapshotProgress value)
    {
        Reports++;
        action();
    }
}
