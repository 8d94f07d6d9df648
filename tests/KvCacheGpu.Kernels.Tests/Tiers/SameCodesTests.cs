using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The same data, sealed on every tier: the same codes, scales and digests, so that pages can move between machines.</summary>
public class SameCodesTests
{
    public static TheoryData<PageFormat, PageFormat, int, int> Cases()
    {
        var cases = new TheoryData<PageFormat, PageFormat, int, int>();
        foreach ((PageFormat key, PageFormat value) in FormatPairs.Natural)
        {
            cases.Add(key, value, 128, 64);
            if (key.Takes(72))
            {
                cases.Add(key, value, 72, 19);
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Every_tier_seals_the_same_bits(PageFormat key, PageFormat value, int width, int pageTokens)
    {
        (string Name, PartCodes[] Parts)[] tiers =
        [
            ("reference", Sealed<Reference>(key, value, width, pageTokens)),
            ("simd-512", Sealed<Simd512Vectors>(key, value, width, pageTokens)),
            ("simd-256", Sealed<Simd256Vectors>(key, value, width, pageTokens)),
            ("scalar", Sealed<SimdOneByOne>(key, value, width, pageTokens)),
            ("portable", Sealed<PortableGroup1>(key, value, width, pageTokens)),
        ];
        foreach ((string name, PartCodes[] parts) in tiers.Skip(1))
        {
            for (int i = 0; i < parts.Length; i++)
            {
                Expect.SameCodes(tiers[0].Parts[i], parts[i], $"{name} part {i}");
                Assert.Equal(tiers[1].Parts[i].Deviation, parts[i].Deviation);
            }
        }
    }

    // Keys and values of two pages of two heads.
    private static PartCodes[] Sealed<TTier>(PageFormat key, PageFormat value, int width, int pageTokens)
        where TTier : ITierUnderTest
    {
        var geometry = new KvGeometry(1, 2, 2, width, width, pageTokens);
        using var harness = new TierHarness(
            TTier.Create, Shapes.Mixed(geometry, FormatPairs.OpenFor((key, value), 0), key, value, sequences: 1), 20);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 3 * pageTokens, 61));
        harness.Fill(sequence, 3 * pageTokens);
        DecodedPage[] pages = [.. from head in new[] { 0, 1 }
                                  from entry in sequence.Rows[0, head]
                                  where entry.PageClass == KernelShape.Sealed
                                  select harness.Decode(entry.Slot, entry.PageClass, pageTokens)];
        Assert.Equal(4, pages.Length);
        return [.. pages.SelectMany(p => new[] { p.KeyCodes, p.ValueCodes })];
    }
}
