namespace KvCacheGpu;

/// <summary>The expected squared error of a head's attention output, in which all drops and demotions are priced.</summary>
/// <remarks>
/// p is a page's share of attention. Dropping the page moves the output by p / (1 - p) (v - o), where v is the page's mean value (DropKV's identity,
/// exact for one token). Demoting it adds the noise of its new class: on logits s^2 |q|^2 |k|^2 eta_K / d, each of which moves the output by
/// p (v - o), and on values eta_V |v|^2. The noises of tokens are independent, so that p^2 becomes the sum of their squared shares, at most p times
/// the largest share. |v - o|^2 is taken as |v|^2 + |o|^2. A square that was not gathered counts as 1 (|v|^2, |o|^2) or as the width d (|q|^2, |k|^2).
/// s is the scale of logits. A soft cap flattens logits and so their noise; here it is taken at the steepest, where it changes nothing.
/// </remarks>
internal static class OutputError
{
    // The least value of 1 - p: a page of a larger share has all the attention.
    private const double Rest = 1e-3;

    // E[p^2 (1 - p)^2] / E[p^2] of a share p that may be anything from 0 to 1: noise on a logit moves p (1 - p) of the output.
    private const double Wavering = .1;

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
    /// <param name="pages">The pages.</param>
    /// <param name="row">The page's row.</param>
    /// <param name="page">The page.</param>
    /// <param name="p">Its expected share.</param>
    /// <param name="surprise">Mean square of the share that it may receive against expectation (<see cref="Surprises"/>). The default value is 0.</param>
    public static double OfDrop(in KvPages pages, int row, int page, double p, double surprise = 0)
    {
        double odds = p / Math.Max(1 - p, Rest);
        return ((odds * odds) + surprise) * Distance(pages, row, page);
    }

    /// <summary>Error of demoting a page of share <paramref name="p"/> to class <paramref name="rung"/>.</summary>
    public static double OfDemotion(in KvPages pages, int row, int page, double p, double surprise, in KvRung rung)
    {
        double d = pages.Geometry.KeyWidth;
        double q = pages.QuerySquare.IsEmpty ? d : pages.QuerySquare[row];
        double k = pages.KeySquare.IsEmpty ? d : pages.KeySquare[page];
        double scale = pages.Geometry.AttentionScale;
        double logits = q * k * rung.KeyError * scale * scale / d;
        double largest = pages.Peak.IsEmpty ? p : Math.Clamp(pages.Peak[page], p / pages.Geometry.PageTokens, p);
        double distance = Distance(pages, row, page);
        double values = rung.ValueError * ValueSquare(pages, page);
        return (p * largest * ((distance * logits) + values)) + (surprise * ((distance * Math.Min(1, logits * Wavering)) + values));
    }

    private static double Distance(in KvPages pages, int row, int page) =>
        ValueSquare(pages, page) + (pages.OutputSquare.IsEmpty ? 1 : pages.OutputSquare[row]);

    private static double ValueSquare(in KvPages pages, int page) => pages.ValueSquare.IsEmpty ? 1 : pages.ValueSquare[page];
}
