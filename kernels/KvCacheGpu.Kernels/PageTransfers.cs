using System.Buffers;

namespace KvCacheGpu.Kernels;

/// <summary>Copies pages between a tier and host memory. This one is for memory that the host reads and writes itself; devices that copy beside their work have their own.</summary>
/// <remarks>Thread safety: members may be called from any thread.</remarks>
/// <param name="tier">The tier.</param>
public class PageTransfers(KernelTier tier)
{
    private readonly float[] _signs = Rotation.Signs(tier.Shape.Geometry.KeyWidth, tier.Shape.RotationSeed);

    /// <summary>How the sketches of pages lie.</summary>
    public KeySketch Sketches { get; } = new(tier.Shape.Geometry);

    /// <summary>Host memory for pages.</summary>
    /// <param name="units">Units of <see cref="PageLayout.UnitBytes"/>.</param>
    /// <exception cref="OutOfMemoryException">The machine does not give it.</exception>
    public virtual HostBlock Allocate(int units) => new PlainHostBlock(units);

    /// <summary>
    /// Copies pages to the host, behind all of the tier's work so far: their slots may be given to others as soon as this returns. They are there after <see cref="KernelTier.Synchronize"/>.
    /// </summary>
    public virtual void Unload(ReadOnlySpan<PageTransfer> pages)
    {
        foreach (PageTransfer page in pages)
        {
            tier.Read((long)page.Slot * PageLayout.UnitWords, page.Block.Words(page.Unit, page.Units));
        }
    }

    /// <summary>Sketches the keys of full pages into host memory, as <see cref="Unload"/> copies pages.</summary>
    public virtual void Sketch(ReadOnlySpan<PageSketch> pages)
    {
        KvGeometry g = tier.Shape.Geometry;
        float[] keys = ArrayPool<float>.Shared.Rent(g.PageTokens * g.KeyWidth);
        try
        {
            Span<float> own = keys.AsSpan(0, g.PageTokens * g.KeyWidth);
            foreach (PageSketch page in pages)
            {
                tier.Materialize([new PageRead(page.Slot, page.PageClass, g.PageTokens, 0, 1, page.KeyRow)], own, default);
                Sketches.Make(own, _signs, page.Block.Words(page.Unit, Sketches.Units));
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(keys);
        }
    }

    /// <summary>
    /// Copies pages to their slots, beside the tier's work where the device can: all work that is enqueued later finds them there, and of the work before, only what <paramref name="after"/> names has ended.
    /// </summary>
    /// <param name="pages">The pages. Their host memory stays as it is until <see cref="WaitForLoads"/>.</param>
    /// <param name="after">A <see cref="Mark"/> behind the last launch that reads what lay in the slots.</param>
    public virtual void Load(ReadOnlySpan<PageTransfer> pages, long after)
    {
        foreach (PageTransfer page in pages)
        {
            tier.Load((long)page.Slot * PageLayout.UnitWords, page.Block.Words(page.Unit, page.Units));
        }
    }

    /// <summary>Names all work that was enqueued so far, for <see cref="Load"/>.</summary>
    public virtual long Mark() => 0;

    /// <summary>Waits until host memory is read no longer by any <see cref="Load"/> that has returned.</summary>
    public virtual void WaitForLoads()
    {
        // Each has ended when it returns.
    }
}
