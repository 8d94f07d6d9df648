using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>Stages of long work, as the user sees them go by.</summary>
internal interface IStages
{
    /// <summary>Begins a stage; what is returned takes the units done so far, out of <paramref name="units"/>.</summary>
    IProgress<int> Begin(string name, int units);
}

/// <summary>A bar for each stage.</summary>
internal sealed class BarStages(ProgressContext context) : IStages
{
    public IProgress<int> Begin(string name, int units)
    {
        ProgressTask task = context.AddTask(Markup.Escape(name), maxValue: units);
        return new Direct<int>(done => task.Value = done);
    }
}

/// <summary>A line for each stage: what a log can hold.</summary>
internal sealed class PlainStages(TextWriter output) : IStages
{
    public IProgress<int> Begin(string name, int units)
    {
        output.WriteLine($"{name} ...");
        return new Direct<int>(_ => { });
    }
}

/// <summary>Nothing.</summary>
internal sealed class QuietStages : IStages
{
    public IProgress<int> Begin(string name, int units) => new Direct<int>(_ => { });
}

// Progress<T> posts to the thread pool, where reports overtake each other.
internal sealed class Direct<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}
