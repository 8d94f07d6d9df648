namespace KvCacheGpu.Cli;

/// <summary>Bytes of a store's operation as a stage of a command.</summary>
internal sealed class StoreProgress(IStages stages, string name) : IProgress<SnapshotProgress>
{
    private const int Units = 1000;

    private readonly IProgress<int> _stage = stages.Begin(name, Units);

    public void Report(SnapshotProgress value) => _stage.Report((int)(value.Bytes * Units / Math.Max(1, value.TotalBytes)));
}
