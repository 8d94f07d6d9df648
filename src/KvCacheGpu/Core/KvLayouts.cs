using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>How the pages of a cache are laid out.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Open">Pages that may still be written, in all layers.</param>
/// <param name="Sealed">By layer: pages once they are sealed.</param>
public sealed record KvLayouts(PageLayout Open, IReadOnlyList<PageLayout> Sealed);
