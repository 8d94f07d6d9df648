using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Fills in squared norms that nobody measured, so that a policy compares like with like.</summary>
internal static class Squares
{
    /// <summary>
    /// A page that another sequence sealed has none: it counts as its row's mean. Queries that were never seen count as their width;
    /// outputs as what the row's pages would give at most, the mean |v|^2 by mass.
    /// </summary>
    public static void Complete(KvGeometry geometry, PlanMemory memory, RowMoments moments)
    {
        Span<float> keys = memory.Scores(TableMap.ScoreKeySquare);
        Span<float> values = memory.Scores(TableMap.ScoreValueSquare);
        ReadOnlySpan<float> mass = memory.Scores(TableMap.ScoreMass);
        for (int row = 0; row < moments.Query.Length; row++)
        {
            Range pages = memory.RowStarts[row]..memory.RowStarts[row + 1];
            FillIn(keys[pages], geometry.KeyWidth);
            FillIn(values[pages], geometry.ValueWidth);
            memory.QuerySquare[row] = moments.Query[row] < 0 ? geometry.KeyWidth : moments.Query[row];
            memory.OutputSquare[row] = moments.Output[row] < 0 ? Mean(values[pages], mass[pages], geometry.ValueWidth) : moments.Output[row];
        }
    }

    private static void FillIn(Span<float> squares, float otherwise)
    {
        (double sum, int known) = (0, 0);
        foreach (float square in squares)
        {
            sum += square;
            known += square > 0 ? 1 : 0;
        }

        float mean = known > 0 ? (float)(sum / known) : otherwise;
        foreach (ref float square in squares)
        {
            square = square > 0 ? square : mean;
        }
    }

    private static float Mean(ReadOnlySpan<float> squares, ReadOnlySpan<float> weights, float otherwise)
    {
        (double sum, double whole) = (0, 0);
        for (int i = 0; i < squares.Length; i++)
        {
            sum += (double)squares[i] * weights[i];
            whole += weights[i];
        }

        return whole > 0 ? (float)(sum / whole) : otherwise;
    }
}
