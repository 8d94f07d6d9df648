namespace KvCacheGpu.TestKit;

/// <summary>The worst of the comparisons that a flow of execution makes with <see cref="Expect"/>, which a report prints beside pass or fail.</summary>
public sealed class WorstError
{
    private static readonly AsyncLocal<WorstError?> _current = new();

    private readonly Lock _gate = new();

    /// <summary>Relative error of the worst comparison, judged against its bound; 0 if there was none.</summary>
    public double Error { get; private set; }

    /// <summary>The bound of that comparison; 0 if there was none.</summary>
    public double Bound { get; private set; }

    /// <summary>Collects the comparisons of the current flow from now on.</summary>
    public static WorstError Collect() => _current.Value = new WorstError();

    /// <summary>Adds a comparison.</summary>
    public static void Note(double error, double bound) => _current.Value?.Take(error, bound);

    /// <summary>Keeps a comparison if it is worse than the worst one so far. An error that is not a number is the worst of all.</summary>
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
