using System.Runtime.InteropServices;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Pages that an encoder of version 1 of the levels wrote, converted and read.</summary>
public sealed class OldLevelsTests
{
    // Levels from the lowest up, as version 1 had them, and how far apart old and new may lie, as a part of a level.
    private static readonly Dictionary<int, (double[] Levels, double Apart)> Old = new()
    {
        [2] = Table(0.0006, 0.452780035f, 1.51041761f),
        [3] = Table(0.0021, 0.245094179f, 0.756005281f, 1.34390928f, 2.1519457f),
        [4] = Table(0.0234, 0.12839503f, 0.388048299f, 0.656759119f, 0.942340456f, 1.2562312f, 1.61804639f, 2.06901723f, 2.73258957f),
    };

    [Theory]
    [InlineData(PageFormat.T4, PageFormat.V4, 128, 64)]
    [InlineData(PageFormat.T4, PageFormat.I8, 24, 7)]
    [InlineData(PageFormat.T3, PageFormat.V3, 128, 64)]
    [InlineData(PageFormat.T3, PageFormat.V3, 40, 16)]
    [InlineData(PageFormat.T3, PageFormat.V3, 56, 5)]
    [InlineData(PageFormat.T2, PageFormat.V2, 128, 64)]
    [InlineData(PageFormat.T2, PageFormat.V2, 24, 7)]
    [InlineData(PageFormat.I8, PageFormat.V3, 72, 16)]
    public void A_page_of_version_1_reads_as_it_did_within_the_rounding_of_levels(PageFormat key, PageFormat value, int width, int pageTokens)
    {
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, width, pageTokens: pageTokens);
        var layout = new PageLayout(geometry, key, value);
        int[] page = new int[layout.Bytes / sizeof(int)];
        var random = new Random(width);
        double[][] keys = Write(page, new PartPlace(layout, geometry, isValue: false), pageTokens, random);
        double[][] values = Write(page, new PartPlace(layout, geometry, isValue: true), pageTokens, random);
        DecodedPage before = Read(page, layout, geometry);
        OldLevels.Convert(layout, geometry, page);
        DecodedPage after = Read(page, layout, geometry);

        AssertNear(before.KeyCodes, after.KeyCodes, keys, after.StoredKeys);
        AssertNear(before.ValueCodes, after.ValueCodes, values, after.StoredValues);
        Assert.Equal(before.KeyCodes.Mean, after.KeyCodes.Mean);

        // Read by its own map and written again, a page without padding is what it was.
        int[] again = [.. page];
        after.KeyCodes.Write(again, new PartPlace(layout, geometry, isValue: false));
        after.ValueCodes.Write(again, new PartPlace(layout, geometry, isValue: true));
        Assert.Equal(page, again);
        AssertPaddingIsClear(page, layout, geometry);
    }

    [Fact]
    public void A_gain_that_is_no_number_stays_none_so_that_a_load_refuses_it()
    {
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 32, pageTokens: 2);
        var layout = new PageLayout(geometry, PageFormat.T4, PageFormat.V4);
        int[] page = new int[layout.Bytes / sizeof(int)];
        var place = new PartPlace(layout, geometry, isValue: false);
        PartPlace.WriteHalf(page, place.ScaleHalf(0, 1), Half.PositiveInfinity);
        PartPlace.WriteHalf(page, place.ScaleHalf(1, 1), Half.NaN);
        OldLevels.Convert(layout, geometry, page);
        Assert.False(Half.IsFinite(PartPlace.ReadHalf(page, place.ScaleHalf(0, 1))) || Half.IsFinite(PartPlace.ReadHalf(page, place.ScaleHalf(1, 1))));
    }

    private static void AssertNear(PartCodes before, PartCodes after, double[][] expected, double[][] got)
    {
        if (!IsLevels(before.Format))
        {
            Assert.Equal(before.Codes, after.Codes);
            Assert.Equal(before.Scales, after.Scales);
            return;
        }

        double apart = Old[before.Format.BitsPerElement()].Apart;
        for (int t = 0; t < expected.Length; t++)
        {
            Assert.Equal(before.Scales[t][0], after.Scales[t][0]);
            double r = (double)before.Scales[t][0];
            if (!before.Format.IsCentered())
            {
                Assert.All(expected[t].Zip(got[t]), pair => Assert.InRange(Math.Abs(pair.First - pair.Second), 0, (apart + 1e-6) * Math.Abs(pair.First)));
                continue;
            }

            // Of T formats what is left of r (mu + g c) without the mean; the gain was rounded once more.
            double[] mean = [.. before.Mean.Select(mu => r * (double)mu)];
            double size = Math.Sqrt(expected[t].Zip(mean, (x, mu) => (x - mu) * (x - mu)).Sum());
            double distance = Math.Sqrt(expected[t].Zip(got[t], (x, y) => (x - y) * (x - y)).Sum());
            Assert.InRange(distance, 0, (apart + Math.ScaleB(1, -11)) * size);
            Assert.True(before.Scales[t][1] == Half.Zero || size > 0);
        }
    }

    // Random codes and scales of a part, as version 1 laid them out; returns what they say.
    private static double[][] Write(int[] page, PartPlace place, int tokens, Random random)
    {
        if (!IsLevels(place.Format))
        {
            double[][] none = new double[tokens][];
            for (int t = 0; t < tokens; t++)
            {
                for (int e = 0; e < place.Width; e++)
                {
                    CodeMap.Write(place.Format, page.AsSpan(place.FirstWord(t)), place.WordStride, e, (uint)random.Next(256));
                }
            }

            return none;
        }

        double[] levels = Old[place.Format.BitsPerElement()].Levels;
        var mean = new Half[place.Width];
        for (int e = 0; place.Format.IsCentered() && e < place.Width; e++)
        {
            mean[e] = (Half)(random.NextDouble() - 0.5);
            PartPlace.WriteHalf(page, place.MeanHalf + e, mean[e]);
        }

        double[][] vectors = new double[tokens][];
        for (int t = 0; t < tokens; t++)
        {
            var r = (Half)(0.1 + (10 * random.NextDouble()));
            Half g = !place.Format.IsCentered() ? Half.One : t == 1 ? Half.Zero : (Half)(0.2 + random.NextDouble());
            PartPlace.WriteHalf(page, place.ScaleHalf(t, 0), r);
            if (place.Format.IsCentered())
            {
                PartPlace.WriteHalf(page, place.ScaleHalf(t, 1), g);
            }

            vectors[t] = new double[place.Width];
            for (int e = 0; e < place.Width; e++)
            {
                int code = random.Next(levels.Length);
                Put(page.AsSpan(place.FirstWord(t)), place.WordStride, levels.Length, e, code);
                vectors[t][e] = (double)r * ((double)mean[e] + ((double)g * levels[code]));
            }
        }

        return vectors;
    }

    // Where version 1 had the code of an element.
    private static void Put(Span<int> words, int stride, int levels, int e, int code)
    {
        switch (levels)
        {
            case 16:
                words[e / 8 * stride] |= code << (e % 8 * 4);
                break;
            case 4:
                words[e / 16 * stride] |= code << (e % 16 * 2);
                break;
            default:
                words[((e / 32 * 3) + (e % 32 / 16)) * stride] |= (code & 3) << (e % 16 * 2);
                words[((e / 32 * 3) + 2) * stride] |= (code >> 2) << (e % 32);
                break;
        }
    }

    // Elements behind the width, as every encoder leaves them.
    private static void AssertPaddingIsClear(int[] page, PageLayout layout, KvGeometry geometry)
    {
        foreach (bool isValue in (bool[])[false, true])
        {
            var place = new PartPlace(layout, geometry, isValue);
            int padded = IsLevels(place.Format) ? place.Format == PageFormat.T4 ? geometry.KeyWidth : (geometry.KeyWidth + 31) / 32 * 32 : 0;
            padded = place.Format is PageFormat.T2 or PageFormat.V2 ? (geometry.KeyWidth + 15) / 16 * 16 : padded;
            for (int e = geometry.KeyWidth; e < padded; e++)
            {
                Assert.Equal(0u, CodeMap.Read(place.Format, page.AsSpan(place.FirstWord(0)), place.WordStride, e));
            }
        }
    }

    private static DecodedPage Read(int[] page, PageLayout layout, KvGeometry geometry) =>
        new(MemoryMarshal.AsBytes(page.AsSpan()).ToArray(), layout, geometry, rotationSeed: 1, layout.PageTokens);

    private static bool IsLevels(PageFormat format) => format is PageFormat.T4 or PageFormat.T3 or PageFormat.T2 or PageFormat.V3 or PageFormat.V2;

    private static (double[] Levels, double Apart) Table(double apart, params float[] magnitudes) =>
        ([.. magnitudes.Reverse().Select(m => -(double)m), .. magnitudes.Select(m => (double)m)], apart);
}
