using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>
/// Attention over pages of arbitrary codes with finite scales, as no encoder would write them all: it equals the oracle on the decoded
/// pages, whatever lies beyond a vector's width.
/// </summary>
public abstract class ArbitraryPageTests<TTier>
    where TTier : ITierUnderTest
{
    private static readonly (int Key, int Value)[] Widths = [(128, 128), (64, 64), (96, 32), (80, 24), (24, 48), (192, 80), (8, 8), (576, 512)];

    private static readonly (PageFormat Key, PageFormat Value)[] Pairs =
    [
        .. from key in Enum.GetValues<PageFormat>()
           from value in Enum.GetValues<PageFormat>()
           where PageFormats.IsPair(key, value)
           select (key, value),
    ];

    public static IEnumerable<object[]> Cases =>
        from pair in Pairs
        from width in Widths
        where pair.Key.Takes(width.Key) && pair.Value.Takes(width.Value)
        select new object[] { pair.Key, pair.Value, width.Key, width.Value };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Attention_equals_the_oracle_on_any_codes(PageFormat key, PageFormat value, int keyWidth, int valueWidth)
    {
        int turn = (int)key + (3 * (int)value) + keyWidth;
        int pageTokens = new[] { 64, 16, 5, 50 }[turn % 4];
        var geometry = new KvGeometry(1, 3, 1, keyWidth, valueWidth, pageTokens);
        PageLayout[] classes = [new(geometry, PageFormat.F32, PageFormat.F32), new(geometry, key, value)];
        AttendPages(geometry, classes, pages: 3, tokens: 1, turn);
        AttendPages(geometry, classes, pages: 3, tokens: 5, turn);
    }

    [Fact]
    public void Pages_of_many_formats_lie_side_by_side_in_one_row()
    {
        var geometry = new KvGeometry(1, 5, 1, 64, 64, 16);
        PageLayout[] classes =
        [
            new(geometry, PageFormat.F16, PageFormat.F16),
            .. from pair in Pairs
               where pair.Key == pair.Value || pair.Key.IsCentered()
               select new PageLayout(geometry, pair.Key, pair.Value),
        ];
        AttendPages(geometry, classes[..Math.Min(classes.Length, KernelShape.MaxClasses)], 2 * classes.Length, tokens: 1, 1);
        AttendPages(geometry, classes[..Math.Min(classes.Length, KernelShape.MaxClasses)], 2 * classes.Length, tokens: 4, 2);
    }

    private static unsafe void AttendPages(KvGeometry geometry, PageLayout[] classes, int pages, int tokens, int seed)
    {
        var random = new Random(seed);
        var shape = new KernelShape(geometry, classes, rotationSeed: 5, sequences: 1, tableCapacity: pages);
        var map = new TableMap(shape);
        int units = classes.Max(c => c.Units);
        using KernelTier tier = TTier.Create(shape, map.Bytes + ((long)pages * units * PageLayout.UnitBytes) + (map.Leaves * map.LeafBytes));
        for (int leaf = 0; leaf < map.Leaves; leaf++)
        {
            tier.OpenLeaf(0, leaf, map.FirstPageUnit + (pages * units) + (leaf * map.LeafUnits));
        }

        var placed = new List<PlacedPage>();
        for (int p = 0; p < pages; p++)
        {
            int pageClass = pages - 1 - p < classes.Length ? (pages - 1 - p) % classes.Length : 1;
            int slot = map.FirstPageUnit + ((pages - 1 - p) * units);
            byte[] bytes = RandomPage.Create(classes[pageClass], random);
            tier.Load((long)slot * PageLayout.UnitWords, System.Runtime.InteropServices.MemoryMarshal.Cast<byte, int>(bytes));
            tier.WriteEntry(0, 0, p, slot, TableMap.Tag(pageClass, p));
            placed.Add(new PlacedPage(p, new DecodedPage(bytes, classes[pageClass], geometry, shape.RotationSeed, geometry.PageTokens)));
        }

        tier.WriteCount(0, 0, pages);
        int length = (pages * geometry.PageTokens) - 2;
        float[] queries = [.. Enumerable.Range(0, tokens * geometry.QueryHeads * geometry.KeyWidth).Select(_ => (float)(2 * random.NextDouble()) - 1)];
        var output = new float[tokens * geometry.QueryHeads * geometry.ValueWidth];
        using KernelBatch batch = tier.CreateBatch(1, tokens);
        batch.Begin([new RaggedSequence(0, 0, tokens, length)]);
        batch.Attend(0, KvTensor.FromHost(queries), output);
        batch.End();
        for (int row = 0; row < tokens * geometry.QueryHeads; row++)
        {
            QueryAttention expected = AttentionOracle.Attend(
                queries.AsSpan(row * geometry.KeyWidth, geometry.KeyWidth),
                length - tokens + (row / geometry.QueryHeads),
                placed,
                geometry);
            double error = 0, norm = 0;
            for (int e = 0; e < geometry.ValueWidth; e++)
            {
                double difference = output[(row * geometry.ValueWidth) + e] - expected.Output[e];
                error += difference * difference;
                norm += expected.Output[e] * expected.Output[e];
            }

            Assert.True(Math.Sqrt(error / norm) <= 1e-5, $"row {row}: relative error {Math.Sqrt(error / norm):e2}");
        }
    }
}

public class Simd512ArbitraryPageTests : ArbitraryPageTests<Simd512Vectors>;

public class Simd256ArbitraryPageTests : ArbitraryPageTests<Simd256Vectors>;

public class ScalarArbitraryPageTests : ArbitraryPageTests<SimdOneByOne>;

public class OnThisProcessorArbitraryPageTests : ArbitraryPageTests<WidestVectors>;
