namespace KvCacheGpu.Tests;

/// <summary>Pages of every kind: gaps, fixed ones, shared ones, classes, segments, ties.</summary>
internal static class RandomPages
{
    public const int MostBytes = 400;

    public static (TestPages Pages, long Bytes) Make(int seed)
    {
        var random = new Random(seed);
        var geometry = new KvGeometry(1 + random.Next(2), 4, 1 << random.Next(3), 8, pageTokens: 4);
        int rows = geometry.Layers * geometry.KvHeads;
        int[][] index = [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, 20).Where(_ => random.Next(4) > 0).ToArray())];
        var pages = new TestPages(geometry, index) { Length = 80, Step = 100, Samples = random.Next(2) * 100 };
        int count = pages.Index.Length;
        pages.Class = Fill(count, _ => (byte)random.Next(3));
        pages.Ladder = [new(MostBytes, 0, 0, 0b110), new(200, 0.001f, 0.001f, 0b100), new(100, 0.02f, 0.02f, 0)];
        pages.Bytes = Fill(count, i => random.Next(5) == 0 ? 0 : pages.Ladder[pages.Class[i]].Bytes);
        pages.Fixed = Fill(count, _ => random.Next(6) == 0);
        pages.Demoted = Fill(count, _ => random.Next(4) == 0);
        pages.Mass = Fill(count, _ => random.Next(6) * 0.1f);
        pages.Peak = Fill(count, _ => random.NextSingle());
        pages.LastMass = Fill(count, _ => random.NextSingle());
        pages.WindowMass = Fill(count, _ => random.Next(3) * random.NextSingle());
        pages.LastUsed = Fill(count, _ => random.Next(100));
        pages.Uses = Fill(count, _ => random.Next(100));
        pages.KeySquare = Fill(count, _ => 8 * random.NextSingle());
        pages.ValueSquare = Fill(count, _ => random.NextSingle());
        pages.QuerySquare = Fill(rows, _ => 8 * random.NextSingle());
        pages.OutputSquare = Fill(rows, _ => random.NextSingle());
        pages.SegmentStarts = random.Next(2) == 0 ? null : [16, 50];
        long all = pages.Bytes.Sum();
        return (pages, 1 + random.NextInt64(all + 100));
    }

    private static T[] Fill<T>(int count, Func<int, T> make) => [.. Enumerable.Range(0, count).Select(make)];
}
