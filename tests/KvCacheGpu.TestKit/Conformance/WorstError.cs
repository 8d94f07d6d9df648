namespace KvCacheGpu.TestKit;

/// <summary>The worst of the comparisons that a flow of execution makes with <see cref="Expect"/>: what a report prints beside pass or fail.</summary>
public sealed class WorstError
{
    private static readonly AsyncLocal<WorstError?> _current = new();

    private readonly Lock _gate = new();

    /// <summary>Relative error of the worst comparison, judged against its bound; 0 where none was made.</summary>
    public double Error { get; private set; }

    /// <summary>That comparison's bound; 0 where none was made.</summary>
    public double Bound { get; private set; }

    /// <summary>Collects what the current flow compares from here on.</summary>
    public static WorstError Collect() => _current.Value = new WorstError();

    /// <summary>Tells of a comparison.</summary>
    public static void Note(double error, double bound) => _current.Value?.Take(error, bound);

    /// <summary>Takes a comparison in where it is worse than the worst so far; not a number is the worst there is.</summary>
    public void Take(double error, double bound)
    {
        lock (_gate)
        {
            bool isWorse = double.IsNaN(error) || (Bound > 0 ? error * Bound > Error * bound : bound > 0);
            if (!double.IsNaN(Error) && isWorse)
            {
                (Error, Bound) = (error, bound);
            }
        }
    }
}
