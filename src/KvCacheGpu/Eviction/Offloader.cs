using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Copies the pages that a policy lets go to host memory. One per cache with a policy and offloading; sequences come one at a time, each held by who calls.</summary>
internal sealed class Offloader(CacheState cache, Offloading offload)
{
    private readonly List<HostPage> _pages = [];
    private readonly List<PageTransfer> _transfers = [];
    private readonly List<PageSketch> _sketches = [];
    private bool _isUnderWay;

    /// <summary>Copies a row's flagged first entries, as far as host memory reaches, behind the launches that read them. They are dropped from the table next; <see cref="Finish"/> follows.</summary>
    /// <returns>How many were copied.</returns>
    public int Offload(SequenceState sequence, int row, ReadOnlySpan<bool> drops)
    {
        PageTable table = sequence.Table;
        _pages.Clear();
        _transfers.Clear();
        _sketches.Clear();
        for (int entry = 0; entry < drops.Length; entry++)
        {
            int pageClass = table.PageClass(row, entry);
            if (drops[entry] && offload.Room.TryTake(pageClass, out PagePlace? place))
            {
                int slot = table.Slot(row, entry);
                Encodings encodings;
                using (cache.Pool.Gate.Enter())
                {
                    encodings = cache.Pool.EncodingsOf(slot);
                }

                _pages.Add(new HostPage(table.PageIndex(row, entry), pageClass, encodings, place));
                _transfers.Add(place.To(slot));
                _sketches.Add(place.SketchOf(slot, pageClass, table.KeyRow(row)));
            }
        }

        if (_pages.Count == 0)
        {
            return 0;
        }

        bool isCopied = false;
        try
        {
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Transfers.Unload(CollectionsMarshal.AsSpan(_transfers));
                cache.Tier.Transfers.Sketch(CollectionsMarshal.AsSpan(_sketches));
            }

            isCopied = _isUnderWay = true;
        }
        finally
        {
            using (cache.Pool.Gate.Enter())
            {
                foreach (HostPage page in _pages)
                {
                    if (isCopied)
                    {
                        sequence.Away!.Add(row, page);
                    }
                    else
                    {
                        page.Leave(offload.Room);
                    }
                }
            }
        }

        return _pages.Count;
    }

    /// <summary>Waits for the copies: one wait for the pages of all rows.</summary>
    public void Finish()
    {
        if (_isUnderWay)
        {
            _isUnderWay = false;
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Synchronize();
            }
        }
    }
}
