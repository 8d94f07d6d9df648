using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>How the pages of a cache are laid out.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Open">Pages that may still be written, in all layers.</param>
/// <param name="Sealed">By layer: pages once they are sealed.</param>
public sealed record KvLayouts(PageLayout Open, IReadOnlyList<PageLayout> Sealed)
{
    /// <summary>Bytes of the hash that ends a block.</summary>
    internal const int CheckBytes = 16;

    /// <summary>Bytes of a block in a lower tier (<see cref="KvCacheOptions.Tiers"/>): a sealed page of every layer and head, and what checks them.</summary>
    /// <param name="kvHeads">KV heads.</param>
    public long BlockBytes(int kvHeads) => BlockBytesOf(Sealed, kvHeads);

    /// <summary>Bytes of the pages alone.</summary>
    internal static long PageBytesOf(IReadOnlyList<PageLayout> layers, int kvHeads) => layers.Sum(layout => (long)layout.Bytes) * kvHeads;

    /// <summary>Bytes of the block: pages, a byte for each, zeros up to 16 bytes, the hash.</summary>
    internal static long BlockBytesOf(IReadOnlyList<PageLayout> layers, int kvHeads)
    {
        long content = PageBytesOf(layers, kvHeads) + ((long)layers.Count * kvHeads);
        return ((content + CheckBytes - 1) / CheckBytes * CheckBytes) + CheckBytes;
    }
}
