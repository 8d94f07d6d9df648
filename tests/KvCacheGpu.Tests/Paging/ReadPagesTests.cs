using static KvCacheGpu.Tests.OffloadCaches;

namespace KvCacheGpu.Tests;

/// <summary>What is told of a sequence's pages is what its table lists.</summary>
public class ReadPagesTests
{
    [Fact]
    public void Each_page_is_told_with_its_place_and_formats()
    {
        KvFormats formats = new(PageFormat.I8, PageFormat.I8);
        KvCacheOptions options = SmallOptions("h2o", formats);
        using KvCache cache = TestCaches.Simd(Flat, options);
        using KvSequence sequence = cache.CreateSequence();
        for (int first = 0; first < 592; first += 8)
        {
            Step(sequence, [.. Enumerable.Range(first, 8)]);
        }

        Step(sequence, [7000]);
        Assert.Equal(75, sequence.PageCount());
        int away = 0;
        for (int layer = 0; layer < Flat.Layers; layer++)
        {
            for (int head = 0; head < Flat.KvHeads; head++)
            {
                IReadOnlyList<KvPageInfo> pages = sequence.ReadPages(layer, head, withMass: true);
                Assert.Equal(Enumerable.Range(0, 75), pages.Select(page => page.Page));
                int[] positions = new int[sequence.ResidentTokens(layer, head)];
                sequence.ResidentPositions(layer, head, positions);
                Assert.Equal(positions.Select(p => p / Flat.PageTokens).Distinct(), pages.Where(page => page.Place == KvPagePlace.Device).Select(page => page.Page));
                Assert.All(pages, page => Assert.Equal(page.Place == KvPagePlace.Gone, page.Formats is null));
                Assert.All(pages.Where(page => page.Place == KvPagePlace.Host), page => Assert.Equal((formats, true, (float?)null), (page.Formats!.Value, page.IsSealed, page.Mass)));
                Assert.All(pages.Where(page => page.Place == KvPagePlace.Device), page => Assert.Equal(page.IsSealed, page.Formats == formats));
                Assert.All(sequence.ReadPages(layer, head), page => Assert.Null(page.Mass));
                Assert.Equal((KvPagePlace.Device, false), (pages[^1].Place, pages[^1].IsSealed));
                away += pages.Count(page => page.Place == KvPagePlace.Host);

                // The mean over the two query heads of a KV head.
                float[][] mass = [.. Enumerable.Range(head * 2, 2).Select(_ => new float[80])];
                int resident = pages.Count(page => page.Place == KvPagePlace.Device);
                Assert.All(mass.Index(), one => Assert.Equal(resident, sequence.PageMass(layer, (head * 2) + one.Index, one.Item)));
                Assert.All(pages.Where(page => page.Place == KvPagePlace.Device).Index(), page => Assert.Equal((mass[0][page.Index] + mass[1][page.Index]) / 2, page.Item.Mass!.Value, 1e-6));
            }
        }

        Assert.Equal(cache.GetOffloadCounts().Pages, away);
        Assert.True(away > 10, $"{away} pages are away");
    }

    [Fact]
    public void Pages_that_a_window_dropped_are_gone()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F32);
        options.Policy = new WindowPolicy(8);
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, options);
        using KvSequence sequence = cache.CreateSequence();
        Assert.Empty(sequence.ReadPages(0, 0));
        sequence.FeedMany(0, 130);
        IReadOnlyList<KvPageInfo> pages = sequence.ReadPages(1, 0, withMass: true);
        Assert.Equal(33, pages.Count);
        Assert.Contains(pages, page => page.Place == KvPagePlace.Gone);
        Assert.Equal(sequence.ResidentTokens(1, 0), pages.Sum(page => page.Place == KvPagePlace.Device ? Math.Min(4, 130 - (page.Page * 4)) : 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => sequence.ReadPages(2, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => sequence.ReadPages(0, 2));
    }
}
