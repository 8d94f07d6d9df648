using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Copies that fail now and then, before anything was copied, and memory that is not to be had.</summary>
internal sealed class FaultyTransfers(KernelTier tier, int seed) : PageTransfers(tier)
{
    private readonly Random _random = new(seed);

    /// <summary>The part of calls that fail.</summary>
    public (double Loads, double Unloads, double Blocks) Rates { get; set; }

    /// <summary>Calls that failed.</summary>
    public int Failed { get; private set; }

    public override HostBlock Allocate(int units)
    {
        if (Fails(Rates.Blocks))
        {
            throw new InsufficientMemoryException("expected page-locked memory, got none");
        }

        return base.Allocate(units);
    }

    public override void Unload(ReadOnlySpan<PageTransfer> pages)
    {
        ThrowIf(Rates.Unloads);
        base.Unload(pages);
    }

    public override void Load(ReadOnlySpan<PageTransfer> pages, long after)
    {
        ThrowIf(Rates.Loads);
        base.Load(pages, after);
    }

    private void ThrowIf(double rate)
    {
        if (Fails(rate))
        {
            throw new InvalidOperationException("expected a device, got none");
        }
    }

    private bool Fails(double rate)
    {
        lock (_random)
        {
            bool fails = _random.NextDouble() < rate;
            Failed += fails ? 1 : 0;
            return fails;
        }
    }
}
