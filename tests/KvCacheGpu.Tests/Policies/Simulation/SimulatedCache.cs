namespace KvCacheGpu.Tests.Simulation;

/// <summary>Holds the pages that a policy leaves it, measures them as the engine does, and counts the attention that went missing.</summary>
internal sealed class SimulatedCache(AttentionScript script, KvPolicy policy, double budget, KvRung[]? ladder = null)
{
    private const int Rows = AttentionScript.Rows;
    private const int Pages = AttentionScript.Pages;
    private const int P = AttentionScript.PageTokens;
    private const int PageBytes = 1000;

    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 4, keyWidth: 8, pageTokens: P);

    private readonly byte[,] _class = new byte[Rows, Pages];
    private readonly bool[,] _gone = new bool[Rows, Pages];
    private readonly float[,] _mass = new float[Rows, Pages];
    private readonly float[,] _window = new float[Rows, Pages];
    private readonly float[,] _last = new float[Rows, Pages];
    private readonly int[,] _used = new int[Rows, Pages];
    private readonly int[,] _uses = new int[Rows, Pages];
    private readonly object? _state = policy.CreateState(G);

    /// <summary>Mean share of attention, over the decoded steps and all rows, that pages which are gone would have received.</summary>
    public double LostMass()
    {
        double lost = 0;
        for (int step = 0; step < AttentionScript.WarmSteps + AttentionScript.Steps; step++)
        {
            bool decodes = step >= AttentionScript.WarmSteps;
            if (decodes && step % P == 0)
            {
                Evict(step);
            }

            lost += Measure(step, decodes);
        }

        return lost / AttentionScript.Steps / Rows;
    }

    private double Measure(int step, bool decodes)
    {
        double lost = 0;
        int newest = AttentionScript.PositionOf(step) / P;
        for (int row = 0; row < Rows; row++)
        {
            float gone = 0;
            int resident = 0;
            for (int page = 0; page <= newest; page++)
            {
                gone += _gone[row, page] ? script.Share(step, row, page) : 0;
                resident += _gone[row, page] ? 0 : 1;
            }

            for (int page = 0; page <= newest; page++)
            {
                if (!_gone[row, page])
                {
                    float share = script.Share(step, row, page) / (1 - gone);
                    _mass[row, page] = (policy.Decay * _mass[row, page]) + share;
                    _last[row, page] = share;
                    _window[row, page] += decodes ? 0 : share;
                    if (share * resident >= 1)
                    {
                        _used[row, page] = step;
                        _uses[row, page]++;
                    }
                }
            }

            lost += decodes ? gone : 0;
        }

        return lost;
    }

    private void Evict(int step)
    {
        int position = AttentionScript.PositionOf(step);
        int newest = position / P;
        int[][] rows = [.. Enumerable.Range(0, Rows).Select(r => Enumerable.Range(0, newest).Where(p => !_gone[r, p]).ToArray())];
        (int Row, int Page)[] listed = [.. rows.SelectMany((pages, r) => pages.Select(p => (r, p)))];
        var pages = new TestPages(G, rows)
        {
            Length = position,
            Step = step,
            Samples = step,
            Mass = [.. listed.Select(x => _mass[x.Row, x.Page])],
            LastMass = [.. listed.Select(x => _last[x.Row, x.Page])],
            WindowMass = [.. listed.Select(x => _window[x.Row, x.Page])],
            LastUsed = [.. listed.Select(x => _used[x.Row, x.Page])],
            Uses = [.. listed.Select(x => _uses[x.Row, x.Page])],
            Bytes = [.. listed.Select(x => BytesOf(x.Row, x.Page))],
            Class = [.. listed.Select(x => _class[x.Row, x.Page])],
            Demoted = [.. listed.Select(x => _class[x.Row, x.Page] > 0)],
            Ladder = ladder,
            Fixed = [.. listed.Select(x => x.Page == 0 || (x.Page + 1) * P > position - policy.WindowTokens)],
            ValueSquare = [.. listed.Select(_ => 1f)],
            OutputSquare = [.. Enumerable.Repeat(0.5f, Rows)],
            KeyMean = [.. listed.SelectMany(x => Key(x.Row, x.Page))],
        };

        // The page about to be written counts.
        long bytes = listed.Sum(x => (long)BytesOf(x.Row, x.Page)) + (Rows * PageBytes);
        KvTransition[] plan = pages.Plan(policy, Math.Max(0, bytes - (long)(budget * Rows * Pages * PageBytes)), _state);
        foreach ((int i, KvTransition transition) in plan.Index())
        {
            (int row, int page) = listed[i];
            _gone[row, page] = transition == KvTransition.Drop;
            _class[row, page] = transition.Kind == KvTransitionKind.Demote ? transition.Class : _class[row, page];
        }
    }

    private int BytesOf(int row, int page) => ladder is null ? PageBytes : ladder[_class[row, page]].Bytes;

    // A common direction, and for every fifth page one of its own.
    private static IEnumerable<float> Key(int row, int page)
    {
        var random = new Random((row * Pages) + page);
        return Enumerable.Range(0, 8).Select(i => (i == 0 ? 2f : 0f) + (random.NextSingle() - 0.5f) + (page % 5 == 0 && i == 1 + (page % 7) ? 2f : 0f));
    }
}
