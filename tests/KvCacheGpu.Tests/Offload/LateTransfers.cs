using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Pages reach host memory only when somebody waits for the device.</summary>
internal sealed class LateTransfers(KernelTier tier) : PageTransfers(tier)
{
    private readonly List<(PageTransfer Page, int[] Words)> _late = [];
    private readonly KernelTier _tier = tier;

    /// <summary>Pages that have not come yet.</summary>
    public int Waiting => _late.Count;

    public override void Unload(ReadOnlySpan<PageTransfer> pages)
    {
        foreach (PageTransfer page in pages)
        {
            int[] words = new int[page.Units * PageLayout.UnitWords];
            _tier.Read((long)page.Slot * PageLayout.UnitWords, words);
            _late.Add((page, words));
            page.Block.Words(page.Unit, page.Units).Fill(0x7FC07FC0);
        }
    }

    public void Arrive()
    {
        foreach ((PageTransfer page, int[] words) in _late)
        {
            words.CopyTo(page.Block.Words(page.Unit, page.Units));
        }

        _late.Clear();
    }
}
