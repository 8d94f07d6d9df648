namespace KvCacheGpu;

/// <summary>
/// Decides which pages of a sequence are dropped and which are demoted. It is pure: the same pages, bytes and state always give the same plan,
/// it knows no device and changes no page.
/// </summary>
/// <remarks>Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.</remarks>
public abstract class KvPolicy
{
    /// <summary>The statistics that it reads beyond the places and bytes of pages. The default value is <see cref="KvStatistics.None"/>.</summary>
    public virtual KvStatistics Needs => KvStatistics.None;

    /// <summary>Lambda of <see cref="KvPages.Mass"/> and <see cref="KvPages.Peak"/>, per sampled step, above 0 and at most 1. The default value is 1: all steps have the same weight.</summary>
    public virtual float Decay => 1f;

    /// <summary>Number of first tokens whose pages are fixed, 0 or more. The default value is 4, as in StreamingLLM.</summary>
    public int SinkTokens
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 4;

    /// <summary>Number of newest tokens whose pages are fixed, at least 1. The default value is 64.</summary>
    public int WindowTokens
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            field = value;
        }
    } = 64;

    /// <summary>True if it drops pages after a step even if no bytes are asked for. The default value is false.</summary>
    public virtual bool ActsUnasked => false;

    /// <summary>
    /// Part of an even share of the pages that every segment (<see cref="KvPages.SegmentStarts"/>) keeps while other segments have pages to give,
    /// 0..1. The default value is 0.2.
    /// </summary>
    public float SegmentFloor
    {
        get;
        init => field = Share(value);
    } = 0.2f;

    /// <summary>Makes the memory that it keeps of one sequence between plans, or null for none. One thread uses it at a time; a fork begins with a new one.</summary>
    /// <param name="geometry">Shape of the model.</param>
    public virtual object? CreateState(KvGeometry geometry) => null;

    /// <summary>
    /// Plans a transition for each page. The plan frees at least <paramref name="bytesToFree"/> bytes if the pages allow it, and less than a page
    /// per row more than that; it keeps every fixed page, and every page of 0 bytes.
    /// </summary>
    /// <param name="pages">The sequence's pages.</param>
    /// <param name="bytesToFree">Bytes to free; 0 if the budget does not bind: then only a policy that <see cref="ActsUnasked"/> drops pages.</param>
    /// <param name="plan">One transition per page, overwritten.</param>
    /// <param name="state">The object that <see cref="CreateState"/> made for this sequence; null to plan without memory.</param>
    /// <exception cref="KvUnsupportedException">A statistic of <see cref="Needs"/> is missing.</exception>
    public abstract void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state);

    /// <summary>
    /// The most pages of one row that always stay: sinks and window, which a budget must hold. Open pages and the pages of the step under way are
    /// not counted.
    /// </summary>
    /// <param name="pageTokens">Tokens in a page.</param>
    public virtual int MostKeptPages(int pageTokens)
    {
        // A window may touch one page more than it fills.
        long sinks = ((long)SinkTokens + pageTokens - 1) / pageTokens;
        long window = (((long)WindowTokens + pageTokens - 1) / pageTokens) + 1;
        return (int)Math.Min(int.MaxValue, sinks + window);
    }

    private protected static float Share(float value, [System.Runtime.CompilerServices.CallerMemberName] string name = "") =>
        value is >= 0 and <= 1 ? value : throw new ArgumentOutOfRangeException(name, value, "expected a share of 0..1");
}
