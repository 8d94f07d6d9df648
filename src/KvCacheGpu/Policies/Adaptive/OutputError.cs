namespace KvCacheGpu;

/// <summary>The expected squared error of a head's attention output if a page is dropped.</summary>
/// <remarks>
/// p is a page's share of attention. Dropping the page moves the output by p / (1 - p) (v - o), where v is the page's mean value (DropKV's identity,
/// exact for one token). |v - o|^2 is taken as |v|^2 + |o|^2. A square that was not gathered counts as 1.
/// </remarks>
internal static class OutputError
{
    // The least value of 1 - p: a page of a larger share has all the attention.
    private const double Rest = 1e-3;

    /// <summary>The sum that the masses of a row would have if no page had been dropped or left out.</summary>
    public static double WholeMass(in KvPages pages, float decay)
    {
        if (pages.Samples > 0)
        {
            return decay < 1 ? (1 - Math.Pow(decay, pages.Samples)) / (1 - decay) : pages.Samples;
        }

        double most = 0;
        for (int row = 0; row < pages.Rows; row++)
        {
            double sum = 0;
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                sum += pages.Mass[page];
            }

            most = Math.Max(most, sum);
        }

        return most > 0 ? most : 1;
    }

    /// <summary>Error of dropping a page of share <paramref name="p"/>.</summary>
    public static double OfDrop(in KvPages pages, int row, int page, double p)
    {
        double odds = p / Math.Max(1 - p, Rest);
        double distance = (pages.ValueSquare.IsEmpty ? 1 : pages.ValueSquare[page]) + (pages.OutputSquare.IsEmpty ? 1 : pages.OutputSquare[row]);
        return odds * odds * distance;
    }
}
