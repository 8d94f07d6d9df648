using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>Shows the stages of long work to the user.</summary>
internal interface IStages
{
    /// <summary>Begins a stage. The returned object takes the number of units done so far, out of <paramref name="units"/>.</summary>
    IProgress<int> Begin(string name, int units);
}

/// <summary>Shows a bar for each stage.</summary>
internal sealed class BarStages(ProgressContext context) : IStages
{
    public IProgress<int> Begin(string name, int units)
    {
        ProgressTask task = context.AddTask(Markup.Escape(name), maxValue: units);
        return new Direct<int>(done => task.Value = done);
    }
}

/// <summary>Writes a line for each stage, for a log.</summary>
internal sealed class PlainStages(TextWriter output) : IStages
{
    public IProgress<int> Begin(string name, int units)
    {
        output.WriteLine($"{name} ...");
        return new Direct<int>(_ => { });
    }
}

/// <summary>Shows nothing.</summary>
internal sealed class QuietStages : IStages
{
    public IProgress<int> Begin(string name, int units) => new Direct<int>(_ => { });
}

// Unlike Progress<T>, which posts to the thread pool, this keeps reports in order.
internal sealed class Direct<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}

/// <summary>Shows the bytes of a store's operation as a stage of a command.</summary>
internal sealed class StoreProgress(IStages stages, string name) : IProgress<SnapshotProgress>
{
    private const int Units = 1000;

    private readonly IProgress<int> _stage = stages.Begin(name, Units);

    public void Report(SnapshotProgress value) => _stage.Report((int)(value.Bytes * Units / Math.Max(1, value.TotalBytes)));
}
