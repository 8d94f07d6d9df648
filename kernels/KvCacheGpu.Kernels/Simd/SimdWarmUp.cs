using System.Collections.Concurrent;
using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Has the runtime compile the kernels that a shape needs before its first token comes: each takes milliseconds when it is first called, all together as long as a hundred tokens.
/// A sequence of one head and a few pages is appended to, sealed in every class and attended to, once in a process for each set of formats.
/// </summary>
internal static unsafe class SimdWarmUp
{
    // More queries than are taken page by page as a decode step's are.
    private const int ChunkTokens = 12;

    // A row that is split has parts to merge.
    private const int SplitTokens = 2048;

    private static readonly ConcurrentDictionary<string, Lazy<bool>> Done = [];

    /// <summary>Compiles what is not compiled yet; where code was compiled ahead of time there is nothing to do.</summary>
    public static void Run(KernelShape shape, SimdLevel level)
    {
        if (!RuntimeFeature.IsDynamicCodeCompiled)
        {
            return;
        }

        KvGeometry g = shape.Geometry;
        string formats = string.Join(' ', shape.Classes.Select(c => $"{c.KeyFormat}/{c.ValueFormat}"));
        string key = $"{level} {formats} {g.KeyWidth} {g.ValueWidth} {g.LogitSoftCap is null} {shape.Precision} {shape.HasStatistics} {shape.KeepsNonFinite}";
        _ = Done.GetOrAdd(key, _ => new Lazy<bool>(() => Attend(shape, level))).Value;
    }

    private static bool Attend(KernelShape shape, SimdLevel level)
    {
        KvGeometry given = shape.Geometry;
        var g = new KvGeometry(layers: 1, given.GroupSize, 1, given.KeyWidth, given.ValueWidth, given.PageTokens) { AttentionScale = given.AttentionScale, LogitSoftCap = given.LogitSoftCap };
        int pages = Math.Max(shape.Classes.Count, g.PagesFor(SplitTokens)), tokens = pages * g.PageTokens;
        var small = new KernelShape(g, shape.Classes, shape.RotationSeed, sequences: 1, pages, keepsNonFinite: shape.KeepsNonFinite)
        {
            HasStatistics = shape.HasStatistics,
            Precision = shape.Precision,
        };
        var map = new TableMap(small);
        int first = map.FirstPageUnit + (map.Leaves * map.LeafUnits);
        long bytes = ((long)first * PageLayout.UnitBytes) + (2 * small.Classes.Sum(c => (long)c.Bytes));
        using var tier = new SimdTier(small, bytes, level, threads: 1);
        for (int leaf = 0; leaf < map.Leaves; leaf++)
        {
            tier.OpenLeaf(0, leaf, map.FirstPageUnit + (leaf * map.LeafUnits));
        }

        // One open page that is written, and sealed from there into each class.
        var moves = new PageMove[shape.Classes.Count - 1];
        int slot = first + small.Classes[KernelShape.Open].Units;
        for (int page = 0; page < moves.Length; slot += small.Classes[page].Units)
        {
            moves[page] = new PageMove(first, KernelShape.Open, slot, ++page, g.PageTokens);
        }

        tier.WriteEntry(0, map.Row(0, 0), 0, first, TableMap.Tag(KernelShape.Open, 0));
        tier.WriteCount(0, map.Row(0, 0), 1);
        using KernelBatch batch = tier.CreateBatch(1, Math.Max(ChunkTokens, g.PageTokens));
        Append(batch, g);
        batch.Seal(moves);
        for (int page = 0; page < pages - 1; page++)
        {
            PageMove move = moves[page % moves.Length];
            tier.WriteEntry(0, map.Row(0, 0), page, move.TargetSlot, TableMap.Tag(move.TargetClass, page));
        }

        tier.WriteEntry(0, map.Row(0, 0), pages - 1, first, TableMap.Tag(KernelShape.Open, pages - 1));
        tier.WriteCount(0, map.Row(0, 0), pages);
        tier.SumsQueries = small.ScalesKeys;
        foreach (int queries in new[] { Math.Min(ChunkTokens, tokens), 1 })
        {
            Attend(batch, g, queries, tokens, small.HasStatistics);
        }

        return true;
    }

    private static void Append(KernelBatch batch, KvGeometry g)
    {
        batch.Begin([new RaggedSequence(0, 0, g.PageTokens, g.PageTokens)]);
        batch.Append(0, Numbers(g.PageTokens * g.KeyWidth), Numbers(g.PageTokens * g.ValueWidth));
        batch.End();
    }

    private static void Attend(KernelBatch batch, KvGeometry g, int queries, int tokens, bool keepsScores)
    {
        batch.Begin([new RaggedSequence(0, 0, queries, tokens)]);
        batch.Attend(0, Numbers(queries * g.QueryHeads * g.KeyWidth), new float[queries * g.QueryHeads * g.ValueWidth]);
        if (keepsScores)
        {
            batch.Score(decay: 1f, step: 0);
        }

        batch.End();
    }

    // Any that are not zero.
    private static float[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(i => ((i * 7 % 13) - 6) / 8f)];
}
