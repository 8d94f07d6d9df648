using KvCacheGpu.Kernels;

namespace KvCacheGpu.Evaluation;

/// <summary>Drops nothing, and remembers what the last query of a step attends to: what an oracle of the same prompt is told. Of one sequence.</summary>
/// <param name="geometry">The model's shape.</param>
/// <param name="tokens">The most tokens that the sequence reaches.</param>
internal sealed class AttentionWatch(KvGeometry geometry, int tokens) : KvPolicy
{
    private readonly int _pages = geometry.PagesFor(tokens);
    private readonly List<float[]> _kept = [];
    private float[] _last = [];

    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <summary>True: it looks at every step.</summary>
    public override bool ActsUnasked => true;

    /// <summary>What the kept queries attend to.</summary>
    public FutureMass Future => new(_pages, _kept);

    /// <summary>Counts the step that was just committed among those that an oracle knows of.</summary>
    public void Keep() => _kept.Add(_last);

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        plan[..pages.Count].Clear();

        // Pages that no plan lists yet can not be dropped yet either: what they receive now no oracle needs to know.
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
