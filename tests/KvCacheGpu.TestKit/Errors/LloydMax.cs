namespace KvCacheGpu.TestKit;

/// <summary>Lloyd's iteration on N(0, 1), with integrals by Simpson's rule: computes the best levels from their definition.</summary>
public static class LloydMax
{
    private const double End = 9;
    private const double Step = 0.01;

    /// <summary>Levels, ascending, and their mean squared error.</summary>
    public static (double[] Levels, double Error) Solve(int bits)
    {
        int count = 1 << bits;
        double[] levels = [.. Enumerable.Range(0, count).Select(i => 4.0 * ((i + 0.5) / count) - 2)];
        double change = 1;
        while (change > 1e-10)
        {
            double[] next = [.. Enumerable.Range(0, count).Select(i => Centroid(Cell(levels, i)))];
            change = next.Zip(levels, (a, b) => Math.Abs(a - b)).Max();
            levels = next;
        }

        // The error of centroids is the variance minus the variance of the levels.
        double explained = Enumerable.Range(0, count).Sum(i => levels[i] * levels[i] * Integrate(Cell(levels, i), _ => 1));
        return (levels, 1 - explained);
    }

    /// <summary>The mean squared error of any levels, a number going to the nearest: a plain sum over a fine grid, which knows of no cells.</summary>
    public static double ErrorOf(double[] levels)
    {
        const double step = 1e-3;
        double sum = 0;
        for (double x = -End + (step / 2); x < End; x += step)
        {
            double distance = levels.Min(level => Math.Abs(x - level));
            sum += distance * distance * Math.Exp(-x * x / 2) * step;
        }

        return sum / Math.Sqrt(2 * Math.PI);
    }

    private static (double From, double To) Cell(double[] levels, int i) => (
        i == 0 ? -End : (levels[i - 1] + levels[i]) / 2,
        i == levels.Length - 1 ? End : (levels[i] + levels[i + 1]) / 2);

    private static double Centroid((double From, double To) cell) => Integrate(cell, x => x) / Integrate(cell, _ => 1);

    private static double Integrate((double From, double To) cell, Func<double, double> f)
    {
        int panels = 2 * (int)Math.Ceiling((cell.To - cell.From) / (2 * Step));
        double step = (cell.To - cell.From) / panels;
        double sum = 0;
        for (int i = 0; i <= panels; i++)
        {
            double x = cell.From + (i * step);
            sum += f(x) * Math.Exp(-x * x / 2) * (i == 0 || i == panels ? 1 : i % 2 == 1 ? 4 : 2);
        }

        return sum * step / 3 / Math.Sqrt(2 * Math.PI);
    }
}
