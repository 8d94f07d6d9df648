namespace KvCacheGpu.Kernels;

/// <summary>How products of queries and keys become logits. Passed by value.</summary>
/// <param name="scale">Factor of the queries, at most 1/sqrt(key width): not even rotated ones leave binary32.</param>
/// <param name="exponent">A second factor 2^exponent, of the products.</param>
/// <param name="cap">Logits become cap * tanh(logit / cap); 0 where they stay as they are.</param>
internal readonly struct LogitDims(float scale, int exponent, float cap)
{
    public readonly float Scale = scale;
    public readonly int Exponent = exponent;
    public readonly float Cap = cap;

    /// <summary>The logits of queries that are scaled already.</summary>
    public LogitDims OfScaled => new(1f, Exponent, Cap);

    public static LogitDims Of(KvGeometry geometry)
    {
        float most = 1f / MathF.Sqrt(geometry.KeyWidth);
        int exponent = geometry.AttentionScale > most ? MathF.ILogB(geometry.AttentionScale / most) + 1 : 0;
        return new LogitDims(MathF.ScaleB(geometry.AttentionScale, -exponent), exponent, geometry.LogitSoftCap ?? 0f);
    }
}

/// <summary>One layer's queries, and the pages of one pair of formats that a launch takes them to. Passed by value.</summary>
/// <param name="layer">The layer.</param>
/// <param name="classes">Page classes that the launch reads, bit c for class c.</param>
/// <param name="queries">The queries.</param>
/// <param name="logits">How products become logits.</param>
/// <param name="window">Positions that a query sees at most, its own the last.</param>
/// <param name="page">How such a page is laid out.</param>
internal readonly struct LayerDims(int layer, int classes, TensorDims queries, LogitDims logits, int window, PageDims page)
{
    public readonly int Layer = layer;
    public readonly int Classes = classes;
    public readonly TensorDims Queries = queries;
    public readonly LogitDims Logits = logits;
    public readonly int Window = window;
    public readonly PageDims Page = page;
}
