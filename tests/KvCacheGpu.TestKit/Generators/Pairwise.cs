namespace KvCacheGpu.TestKit;

/// <summary>Few combinations of the levels of several factors, in which every two levels of two factors meet.</summary>
public static class Pairwise
{
    private const int Tries = 100;

    // What a new need costs, in combinations.
    private const int Need = 20;

    /// <summary>
    /// Combinations, each a level by factor, in the same order every time. Two levels meet where some allowed combination has both.
    /// </summary>
    /// <param name="levels">The number of levels of each factor.</param>
    /// <param name="isAllowed">False for combinations that do not exist. It is asked about every combination of the factors that come first, up to <paramref name="constrained"/>.</param>
    /// <param name="constrained">Factors, from the first on, that are not free of each other.</param>
    /// <param name="needs">What a combination needs that is dear to make and that others may share: rather more combinations than more of it.</param>
    /// <param name="made">What is there already of it.</param>
    /// <param name="prefersFirst">True to take the first of levels that add as much, where a factor's first levels take the least time. The default value is false: any of them.</param>
    public static IReadOnlyList<int[]> Cover<TNeed>(
        int[] levels, int constrained, Func<int[], bool> isAllowed, Func<int[], IEnumerable<TNeed>> needs, IEnumerable<TNeed> made, bool prefersFirst = false)
    {
        ArgumentNullException.ThrowIfNull(levels);
        ArgumentNullException.ThrowIfNull(isAllowed);
        ArgumentNullException.ThrowIfNull(needs);
        ArgumentNullException.ThrowIfNull(made);
        int[][] heads = [.. Product(levels[..constrained]).Where(isAllowed)];
        var open = new HashSet<(int, int, int, int)>();
        for (int a = 0; a < levels.Length; a++)
        {
            for (int b = a + 1; b < levels.Length; b++)
            {
                open.UnionWith(
                    from x in Enumerable.Range(0, levels[a])
                    from y in Enumerable.Range(0, levels[b])
                    where Array.Exists(heads, head => (a >= constrained || head[a] == x) && (b >= constrained || head[b] == y))
                    select (a, x, b, y));
            }
        }

        var random = new Random(1);
        var cases = new List<int[]>();
        var there = new HashSet<TNeed>(made);
        while (open.Count > 0)
        {
            int[] best = Enumerable.Range(0, Tries).Select(_ => Draw(levels, heads, open, (random, prefersFirst)))
                .MaxBy(one => Pairs(one).Count(open.Contains) / (1.0 + (Need * needs(one).Distinct().Count(need => !there.Contains(need)))))!;
            open.ExceptWith(Pairs(best));
            there.UnionWith(needs(best));
            cases.Add(best);
        }

        return cases;
    }

    /// <summary>All combinations of some factors' levels, the last factor's turning fastest.</summary>
    public static IEnumerable<int[]> Product(int[] levels) => levels.Aggregate(
        (IEnumerable<int[]>)[[]], (all, count) => all.SelectMany(some => Enumerable.Range(0, count).Select(level => (int[])[.. some, level])));

    // A combination that has some pair that is still open; then each factor in turn takes the level that adds the most of them.
    private static int[] Draw(int[] levels, int[][] heads, HashSet<(int A, int X, int B, int Y)> open, (Random Random, bool PrefersFirst) by)
    {
        Random random = by.Random;
        (int a, int x, int b, int y) = open.ElementAt(random.Next(open.Count));
        int constrained = heads[0].Length;
        int[][] fitting = [.. heads.Where(head => (a >= constrained || head[a] == x) && (b >= constrained || head[b] == y))];
        int[] chosen = [.. fitting[random.Next(fitting.Length)], .. Enumerable.Repeat(-1, levels.Length - constrained)];
        (chosen[a], chosen[b]) = (x, y);
        int[] free = [.. Enumerable.Range(constrained, levels.Length - constrained).Where(factor => chosen[factor] < 0)];
        random.Shuffle(free);
        foreach (int factor in free)
        {
            int first = by.PrefersFirst ? 0 : random.Next(levels[factor]);
            chosen[factor] = Enumerable.Range(0, levels[factor]).Select(level => (first + level) % levels[factor]).MaxBy(level =>
            {
                int[] with = [.. chosen];
                with[factor] = level;
                return Pairs(with).Count(open.Contains);
            });
        }

        return chosen;
    }

    private static IEnumerable<(int, int, int, int)> Pairs(int[] levels) =>
        from a in Enumerable.Range(0, levels.Length)
        from b in Enumerable.Range(a + 1, levels.Length - a - 1)
        where levels[a] >= 0 && levels[b] >= 0
        select (a, levels[a], b, levels[b]);
}
