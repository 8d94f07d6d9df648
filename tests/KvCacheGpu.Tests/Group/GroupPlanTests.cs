namespace KvCacheGpu.Tests;

/// <summary>
/// A policy decides for a group as if it were one cache: of as many bytes for pages, the same pages are evicted, demoted and merged, row by row, step by step.
/// </summary>
public sealed class GroupPlanTests
{
    public static TheoryData<string, string> Cases
    {
        get
        {
            var cases = new TheoryData<string, string>();
            foreach (string policy in (string[])["h2o", "across", "adaptive"])
            {
                foreach (string tiling in (string[])["1 shard", "2 shards", "4 shards", "2 layers", "2 x 2", "uneven"])
                {
                    cases.Add(policy, tiling);
                }
            }

            foreach (string policy in (string[])["window", "snapkv", "keydiff", "expected-attention", "dropkv", "merge:adaptive"])
            {
                cases.Add(policy, "2 shards");
                cases.Add(policy, "2 layers");
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_group_evicts_and_demotes_what_one_cache_does(string policy, string tiling)
    {
        KvCacheOptions options = Options(policy);
        using KvCacheGroup group = TestGroups.Make(tiling, options);
        TestGroups.HoldTo(group, pagesOfRow: 24);
        options.MemoryBudgetBytes *= 3;
        using var whole = new KvCache(TestGroups.Model, options);
        using KvGroupSequence all = group.CreateSequence();
        using KvSequence one = whole.CreateSequence();
        using KvGroupSequence other = group.CreateSequence();
        using KvSequence otherOne = whole.CreateSequence();
        int demoted = 0;
        for (int first = 0, round = 0; first < 360; round++)
        {
            int[] ids = [.. Enumerable.Range(first, 1 + (round * 5 % 8))];
            first += ids.Length;
            SetWatermark(whole, group);
            (KvGroupSequence mine, KvSequence same) = round % 3 == 0 ? (other, otherOne) : (all, one);
            Assert.Equal(same.FeedWhole(ids), mine.Feed(ids));
            Assert.Equal(TestGroups.Pages(same), TestGroups.Pages(mine));
            demoted += TestGroups.Pages(mine).Sum(row => row.Count(page => page.Formats.Key == PageFormat.T2));
            Assert.All(group.Parts, part => Assert.InRange(part.AllocatedBytes, 0, part.BudgetBytes));
        }

        Assert.Equal(TestGroups.Bytes(one), TestGroups.Bytes(all));
        Assert.True(demoted > 0 || all.EvictedTokens + other.EvictedTokens > 40, $"{all.EvictedTokens} + {other.EvictedTokens} tokens were evicted");
        Assert.Equal(one.EvictedTokens, all.EvictedTokens, 9);
        Assert.Equal(policy.EndsWith("adaptive", StringComparison.Ordinal), demoted > 0);
    }

    // As many bytes for pages: what a budget leaves for them depends on what tables cost, which are cut into other pieces.
    private static void SetWatermark(KvCache whole, KvCacheGroup group)
    {
        whole.Watermark = ((long)(group.Watermark * TestGroups.Room(group)) + 0.5) / whole.Pressure!.Own.Load()!.Value.Room;
    }

    private static KvCacheOptions Options(string policy)
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 512, maxSequences: 2);
        options.MaxSequenceTokens = 1024;
        options.PlanEvery = 3;
        options.DemotionFormats = [new(PageFormat.T2, PageFormat.V2)];
        options.MergePages = policy.StartsWith("merge:", StringComparison.Ordinal);
        options.Policy = policy == "across" ? new AdaKvPolicy(new H2oPolicy { SinkTokens = 2, WindowTokens = 6 }) { AcrossLayers = true } : TightCaches.Policy(policy);
        options.MemoryBudgetBytes = KvCache.BytesFor(TestGroups.Model, options).MinimumBytes * 4;
        return options;
    }
}
