namespace KvCacheGpu.TestKit;

/// <summary>The expected scores of a page, kept in double from step to step.</summary>
public sealed class ScoreOracle
{
    /// <summary>Mass with decay.</summary>
    public double Mass { get; private set; }

    /// <summary>Largest mass of a token, with decay.</summary>
    public double Peak { get; private set; }

    /// <summary>Mass of the last query.</summary>
    public double Last { get; private set; }

    /// <summary>Summed mass of the queries observed.</summary>
    public double Window { get; private set; }

    /// <summary>The last step in which the mass was at or above the page's share.</summary>
    public int LastUsed { get; private set; }

    /// <summary>Number of steps in which the mass was at or above the page's share.</summary>
    public int Uses { get; private set; }

    /// <summary>The smallest distance of a mass from its page's share: below a rounding error, either answer is right.</summary>
    public double Closest { get; private set; } = 1;

    /// <summary>Adds a step: the attention of the group's last queries, the page's index among theirs, and its share of the tokens that they see.</summary>
    public void Score(QueryAttention[] group, int entry, double share, double decay, int step)
    {
        Last = MassOf(group, entry);
        Mass = (decay * Mass) + Last;
        Peak = Math.Max(decay * Peak, group.Max(query => Math.Exp(query.Pages[entry].Largest - query.LogSumExp)));
        Closest = Math.Min(Closest, Math.Abs(Last - share));
        if (share > 0 && Last >= share)
        {
            (LastUsed, Uses) = (step, Uses + 1);
        }
    }

    /// <summary>Adds an observed token.</summary>
    public void Observe(QueryAttention[] group, int entry) => Window += MassOf(group, entry);

    private static double MassOf(QueryAttention[] group, int entry) =>
        group.Average(query => query.Pages[entry].Sum == 0 ? 0 : query.Pages[entry].Sum * Math.Exp(query.Pages[entry].Largest - query.LogSumExp));
}
