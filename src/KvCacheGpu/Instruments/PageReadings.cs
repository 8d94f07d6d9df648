using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Pages of a cache, by layout and by what they are: each counts once.</summary>
internal static class PageReadings
{
    public static void Pages(MeasuredCache cache, Readings<long> to)
    {
        CacheState state = cache.State;
        var tally = new PageTally();
        state.Pool.CountPages(tally);
        for (int pageClass = 0; pageClass < state.Classes.Count; pageClass++)
        {
            Add(pageClass, "open", tally.Open[pageClass]);
            Add(pageClass, "sealed", tally.Sealed[pageClass]);
            Add(pageClass, "shared", tally.Shared[pageClass]);
            Add(pageClass, "cached", tally.Cached[pageClass]);
            Add(pageClass, "offloaded", state.Offload?.Room.PagesOf(pageClass) ?? 0);
        }

        // Places for pages that come back hold none of their own; their slots are taken as pages of the largest class.
        void Add(int pageClass, string what, long pages)
        {
            if (what == "open" && pageClass != KernelShape.Open)
            {
                what = "staging";
            }

            if (pages > 0)
            {
                to.Add(pages, [.. cache.OnDevice, Tags.Of(Tags.Layout, $"{state.Classes.FormatsOf(pageClass)}"), Tags.Of(Tags.State, what)]);
            }
        }
    }
}
