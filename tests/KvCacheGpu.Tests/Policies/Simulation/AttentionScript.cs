namespace KvCacheGpu.Tests.Simulation;

/// <summary>
/// The attention of eight heads, page by page and step by step. Policies only see the part of it on pages that they kept. Heads: local with a
/// sink; fixed heavy hitters; heavy hitters that drift; diffuse; two sets by turns; rare retrieval; local and heavy; a pointer that copies.
/// </summary>
internal sealed class AttentionScript
{
    public const int Rows = 8;
    public const int PageTokens = 16;
    public const int PromptPages = 64;
    public const int Pages = 128;
    public const int WarmSteps = 64;
    public const int Steps = (Pages - PromptPages) * PageTokens;

    private readonly Random _random;
    private readonly float[,,] _shares = new float[WarmSteps + Steps, Rows, Pages];

    public AttentionScript(int seed)
    {
        _random = new Random(seed);
        for (int row = 0; row < Rows; row++)
        {
            Write(row);
        }
    }

    /// <summary>Position of a step's token: the last <see cref="WarmSteps"/> of the prompt come first.</summary>
    public static int PositionOf(int step) => (PromptPages * PageTokens) - WarmSteps + step;

    /// <summary>Share of a page in a step's attention, if all pages were there.</summary>
    public float Share(int step, int row, int page) => _shares[step, row, page];

    private void Write(int row)
    {
        var lasting = new float[Pages];
        var passing = new float[Pages];
        Pick(lasting, Pages, 10);
        Pick(passing, PromptPages, 8);
        var other = new float[Pages];
        Pick(other, PromptPages, 8);
        int[] rare = [.. Enumerable.Range(0, 6).Select(_ => 1 + _random.Next(PromptPages - 1))];
        for (int step = 0; step < WarmSteps + Steps; step++)
        {
            int newest = PositionOf(step) / PageTokens;
            if (step % 150 == 149)
            {
                Pick(passing, newest + 1, 8);
            }

            bool retrieves = _random.NextDouble() < 0.05;
            int found = rare[_random.Next(rare.Length)];
            int pointer = 1 + (step / PageTokens % (PromptPages - 1));
            double total = 0;
            for (int page = 0; page <= newest; page++)
            {
                double local = Math.Exp((page - newest) / 4.0);
                double weight = row switch
                {
                    0 => local + 0.002,
                    1 => lasting[page] + (0.3 * local) + 0.01,
                    2 => passing[page] + (0.3 * local) + 0.01,
                    3 => 0.05 + (0.2 * local),
                    4 => (step / 40 % 2 == 0 ? passing[page] : other[page]) + (0.3 * local) + 0.01,
                    5 => (retrieves && page == found ? 20 : 0) + local + 0.002,
                    6 => (0.3 * lasting[page]) + local + 0.005,
                    _ => (page == pointer ? 3 : 0) + (page == pointer + 1 ? 1 : 0) + (0.5 * local) + 0.003,
                };
                weight = (weight * Math.Exp(0.7 * Gauss())) + (page == 0 ? 2 : 0);
                _shares[step, row, page] = (float)weight;
                total += weight;
            }

            for (int page = 0; page <= newest; page++)
            {
                _shares[step, row, page] = (float)(_shares[step, row, page] / total);
            }
        }
    }

    private void Pick(float[] weights, int among, int count)
    {
        Array.Clear(weights);
        for (int i = 0; i < count; i++)
        {
            weights[_random.Next(among)] = (float)Math.Exp(0.5 * Gauss());
        }
    }

    private double Gauss() => Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble());
}
