namespace KvCacheGpu.Evaluation;

/// <summary>Drops nothing, and records the attention of the last query of each step of one sequence, which an oracle of the same prompt then knows.</summary>
/// <param name="geometry">The model's shape.</param>
/// <param name="tokens">The most tokens of the sequence.</param>
internal sealed class AttentionWatch(KvGeometry geometry, int tokens) : KvPolicy
{
    private readonly int _pages = geometry.PagesFor(tokens);
    private readonly List<float[]> _kept = [];
    private float[] _last = [];

    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <summary>True, since it looks at every step.</summary>
    public override bool ActsUnasked => true;

    /// <summary>The attention of the kept queries.</summary>
    public FutureMass Future => new(_pages, _kept);

    /// <summary>Adds the step that was just committed to those that an oracle knows.</summary>
    public void Keep() => _kept.Add(_last);

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        plan[..pages.Count].Clear();

        // Pages that no plan lists yet cannot be dropped yet either, so no oracle needs to know their attention.
        _last = new float[pages.Rows * _pages];
        for (int row = 0; row < pages.Rows; row++)
        {
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                _last[(row * _pages) + pages.PageIndex[page]] = pages.LastMass[page];
            }
        }
    }
}
