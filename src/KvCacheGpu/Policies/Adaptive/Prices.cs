namespace KvCacheGpu;

/// <summary>
/// What each step of a plan is expected to cost: the mean square of the attention that goes astray, in units of a row's own output, weighted by how much
/// more than a usual row of the model the row writes.
/// </summary>
/// <remarks>
/// p is a page's expected share of attention, m the larger of that and its mean share so far, L what its row has lost already, c its concentration, b its
/// burst (<see cref="OldAttention"/>).
/// <code>
/// drop:     p (c + p + 2 b L)                       the increase of E[(share of all dropped pages)^2]
/// demotion: (p (max(c, peak) + p) / 10 + 4 m^2) (noise of logits + noise of values / 2)
/// </code>
/// So a row that spreads its attention pays more for each further page, and one that looks at one page at a time the same for each. The noises of tokens are
/// independent of each other, so that a demotion has no such term, and most of the noise of a page evens out; more of it stays where queries relied on one token of
/// the page, as its peak tells. It does not even out on a page that many queries rely on, of which attention sinks are the extreme. The noise of logits is
/// s^2 |q|^2 |k|^2 eta_K / d with s the scale of logits. It is not cut off at 1: a noisy logit also draws attention from all other tokens. A square that was not
/// gathered counts as 1 (|v|^2, |o|^2) or as the width d (|q|^2, |k|^2). A soft cap flattens logits and so their noise; here it is taken at the steepest, where it changes nothing.
/// </remarks>
internal readonly ref struct Prices : IDisposable
{
    // Beyond it all is lost anyway.
    private const double MostNoise = 10;

    // |v|^2 is about half of |v - o|^2, in whose units drops are priced.
    private const double PartOfValues = 0.5;

    // The part of a page's noise that does not even out between its tokens, and how dear noise is on pages that queries rely on in the mean. Both were
    // chosen on the demo model and the second one.
    private const double PartOfNoise = 0.1;
    private const double Reliance = 4;

    // A row that writes more than this many times as much as a usual one counts more steeply.
    private const double Outstanding = 3;

    private readonly KvPages _pages;
    private readonly ReadOnlySpan<float> _shares;
    private readonly ReadOnlySpan<float> _lost;
    private readonly OldAttention? _old;
    private readonly Pooled<double> _weights;
    private readonly float _offloadPrice;
    private readonly double _wholeMass;

    /// <param name="pages">The pages.</param>
    /// <param name="shares">Each page's expected share of attention.</param>
    /// <param name="old">How rows attend to old pages; null where nobody watched: then pages are priced one by one.</param>
    /// <param name="lost">[rows] expected share of attention that each row has lost; it may grow meanwhile, and prices with it.</param>
    /// <param name="wholeMass">Mass of a row.</param>
    /// <param name="offloadPrice">Price of letting a page go to host memory, as a part of the price of losing it.</param>
    public Prices(in KvPages pages, ReadOnlySpan<float> shares, OldAttention? old, ReadOnlySpan<float> lost, double wholeMass, float offloadPrice = 1)
    {
        (_wholeMass, _offloadPrice) = (wholeMass, offloadPrice);
        _pages = pages;
        _old = old;
        _shares = shares;
        _lost = lost;
        _weights = new Pooled<double>(pages.Rows);
        Weigh(pages, _weights.Span);
    }

    /// <summary>Price of dropping a page.</summary>
    /// <remarks>
    /// A row that writes w times as much as a usual one pays w^2 times the cube of max(1, w / 3) for a drop, and the square root of that for a demotion, since much of a noisy page is
    /// still found. Rows that write more than three times as much are few: in the demo model they are those that write recalled facts. The powers and the three were chosen on the
    /// demo model and the second one: lower ones recall fewer facts, higher ones cost running text.
    /// </remarks>
    public double OfDrop(int row, int page)
    {
        (double p, double weight) = (_shares[page], _weights.Span[row]);
        return weight * weight * p * (Concentration(row) + p + (2 * (_old?.Burst(row) ?? 0) * _lost[row]));
    }

    /// <summary>Price of letting a page go to host memory: a part of the price of losing it, since it is not lost and has to be fetched.</summary>
    public double OfOffload(int row, int page) => _offloadPrice * OfDrop(row, page);

    /// <summary>Price of demoting a page to class <paramref name="rung"/>.</summary>
    public double OfDemotion(int row, int page, in KvRung rung)
    {
        double d = _pages.Geometry.KeyWidth;
        double q = _pages.QuerySquare.IsEmpty ? d : _pages.QuerySquare[row];
        double k = _pages.KeySquare.IsEmpty ? d : _pages.KeySquare[page];
        double scale = _pages.Geometry.AttentionScale;
        double logits = Math.Min(MostNoise, q * k * rung.KeyError * scale * scale / d);
        double p = _shares[page];
        double concentration = Math.Max(Concentration(row), _pages.Peak.IsEmpty ? 0 : _pages.Peak[page]);
        double mean = Math.Max(p, Math.Clamp(_pages.Mass[page] / _wholeMass, 0, 1));
        double reliance = (PartOfNoise * p * (concentration + p)) + (Reliance * mean * mean);
        return _weights.Span[row] * reliance * (logits + (PartOfValues * rung.ValueError));
    }

    public void Dispose() => _weights.Dispose();

    private double Concentration(int row) => _old?.Concentration(row) ?? 0;

    // The weight of each row's demotions; that of its drops is the square of it. It rises with what the row writes, |v|^2 + |o|^2. A row that writes less than a usual one has
    // weight 1, because nobody knows what later layers make of little.
    private static void Weigh(in KvPages pages, Span<double> weights)
    {
        (double logs, int known) = (0, 0);
        for (int row = 0; row < pages.Rows; row++)
        {
            (int first, int end) = (pages.RowStarts[row], pages.RowStarts[row + 1]);
            double sum = 0;
            for (int page = first; page < end; page++)
            {
                sum += pages.ValueSquare.IsEmpty ? 1 : pages.ValueSquare[page];
            }

            double square = (sum / Math.Max(1, end - first)) + (pages.OutputSquare.IsEmpty ? 1 : pages.OutputSquare[row]);
            weights[row] = double.IsFinite(square) && square > 0 ? square : 0;
            if (weights[row] > 0)
            {
                logs += Math.Log(weights[row]);
                known++;
            }
        }

        double usual = known > 0 ? Math.Exp(logs / known) : 1;
        foreach (ref double one in weights)
        {
            double times = Math.Max(1, one / usual);
            one = times * Math.Pow(Math.Max(1, times / Outstanding), 1.5);
        }
    }
}
