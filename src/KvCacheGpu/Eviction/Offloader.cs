using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Copies the pages that a policy lets go to host memory. One per cache with a policy and offloading; sequences come one at a time, each held by who calls.</summary>
internal sealed class Offloader(CacheState cache, Offloading offload)
{
    /// <summary>Copies a row's flagged first entries, as far as host memory reaches. They are dropped from the table next.</summary>
    public void Offload(SequenceState sequence, int row, ReadOnlySpan<bool> drops)
    {
        PageTable table = sequence.Table;
        for (int entry = 0; entry < drops.Length; entry++)
        {
            if (!drops[entry] || !offload.Room.TryTake(table.PageClass(row, entry)))
            {
                continue;
            }

            int pageClass = table.PageClass(row, entry);
            PageLayout layout = cache.Classes.Shape.Classes[pageClass];
            int[] words = GC.AllocateUninitializedArray<int>(layout.Units * PageLayout.UnitWords);
            cache.Reader.Read(table.Slot(row, entry), words);
            using (cache.Pool.Gate.Enter())
            {
                sequence.Away!.Add(row, new HostPage(table.PageIndex(row, entry), pageClass, layout, cache.Pool.EncodingsOf(table.Slot(row, entry)), words));
            }
        }
    }
}
