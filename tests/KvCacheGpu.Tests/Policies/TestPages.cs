namespace KvCacheGpu.Tests;

/// <summary>Pages to plan on, in arrays that tests fill as they like; what stays null is what nobody gathered.</summary>
internal sealed class TestPages
{
    public TestPages(KvGeometry geometry, params int[][] rows)
    {
        Geometry = geometry;
        RowStarts = [0, .. rows.Select((_, r) => rows.Take(r + 1).Sum(x => x.Length))];
        Index = [.. rows.SelectMany(x => x)];
        Length = (Index.DefaultIfEmpty(0).Max() + 1) * geometry.PageTokens;
        Bytes = [.. Index.Select(_ => 100)];
    }

    public KvGeometry Geometry { get; }

    public int[] RowStarts { get; }

    public int[] Index { get; }

    public int Length { get; set; }

    public long Step { get; set; }

    public long Samples { get; set; }

    public float[]? Mass { get; set; }

    public float[]? Peak { get; set; }

    public float[]? LastMass { get; set; }

    public float[]? WindowMass { get; set; }

    public int[]? LastUsed { get; set; }

    public int[]? Uses { get; set; }

    public byte[]? Class { get; set; }

    public int[]? Bytes { get; set; }

    public bool[]? Fixed { get; set; }

    public bool[]? Demoted { get; set; }

    public long OffloadBytes { get; set; }

    public float[]? KeyMean { get; set; }

    public float[]? KeySquare { get; set; }

    public float[]? ValueSquare { get; set; }

    public float[]? QuerySquare { get; set; }

    public float[]? OutputSquare { get; set; }

    public float[]? FutureQueryMean { get; set; }

    public float[]? FutureQueryVariance { get; set; }

    public KvRung[]? Ladder { get; set; }

    public int[]? SegmentStarts { get; set; }

    public KvPages View => new(Geometry, Length, RowStarts, Index)
    {
        Step = Step,
        Samples = Samples,
        Mass = Mass,
        Peak = Peak,
        LastMass = LastMass,
        WindowMass = WindowMass,
        LastUsed = LastUsed,
        Uses = Uses,
        Class = Class,
        Bytes = Bytes,
        Fixed = Fixed,
        Demoted = Demoted,
        OffloadBytes = OffloadBytes,
        KeyMean = KeyMean,
        KeySquare = KeySquare,
        ValueSquare = ValueSquare,
        QuerySquare = QuerySquare,
        OutputSquare = OutputSquare,
        FutureQueryMean = FutureQueryMean,
        FutureQueryVariance = FutureQueryVariance,
        Ladder = Ladder,
        SegmentStarts = SegmentStarts,
    };

    /// <summary>Rows of one layer.</summary>
    public static KvGeometry OneLayer(int heads, int pageTokens = 4) => new(1, heads, heads, keyWidth: 8, pageTokens: pageTokens);

    /// <summary>Pages 0..count-1 in each row of one layer.</summary>
    public static TestPages Full(int heads, int count, int pageTokens = 4) =>
        new(OneLayer(heads, pageTokens), [.. Enumerable.Range(0, heads).Select(_ => Enumerable.Range(0, count).ToArray())]);

    public KvTransition[] Plan(KvPolicy policy, long bytes, object? state = null)
    {
        var plan = new KvTransition[Index.Length];
        Array.Fill(plan, KvTransition.DemoteTo(7));
        policy.Plan(View, bytes, plan, state);
        return plan;
    }

    /// <summary>Pages that a plan drops, as numbers over all rows.</summary>
    public int[] Dropped(KvPolicy policy, long bytes, object? state = null) =>
        [.. Plan(policy, bytes, state).Index().Where(x => x.Item == KvTransition.Drop).Select(x => x.Index)];

    public float[] Scores(RankedPolicy policy)
    {
        var scores = new float[Index.Length];
        Array.Fill(scores, float.NaN);
        policy.Score(View, scores);
        return scores;
    }

    /// <summary>Bytes that a plan frees.</summary>
    public long Freed(KvTransition[] plan) => plan.Index().Sum(x => x.Item.Kind switch
    {
        KvTransitionKind.Drop => (long)Bytes![x.Index],
        KvTransitionKind.Demote => Bytes![x.Index] - Ladder![x.Item.Class].Bytes,
        _ => 0,
    });
}
