namespace KvCacheGpu.Kernels;

/// <summary>One layer's queries, and the pages of one pair of formats that a launch takes them to. Passed by value.</summary>
/// <param name="layer">The layer.</param>
/// <param name="classes">Page classes that the launch reads, bit c for class c.</param>
/// <param name="tokenStride">Elements of the queries from one token to the next.</param>
/// <param name="headStride">Elements from one query head to the next.</param>
/// <param name="scale">Factor of the queries.</param>
/// <param name="window">Positions that a query sees at most, its own the last.</param>
/// <param name="page">How such a page is laid out.</param>
internal readonly struct LayerDims(int layer, int classes, int tokenStride, int headStride, float scale, int window, PageDims page)
{
    public readonly int Layer = layer;
    public readonly int Classes = classes;
    public readonly int TokenStride = tokenStride;
    public readonly int HeadStride = headStride;
    public readonly float Scale = scale;
    public readonly int Window = window;
    public readonly PageDims Page = page;
}
