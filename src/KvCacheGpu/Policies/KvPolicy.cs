using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Decides which pages of a sequence go and which shrink. Pure: the same pages, bytes and state always give the same plan; knows no
/// device, moves nothing. One policy serves every sequence of a cache, from several threads.
/// </summary>
public abstract class KvPolicy
{
    /// <summary>What it reads of pages beyond their places and bytes. The default value is <see cref="KvStatistics.None"/>.</summary>
    public virtual KvStatistics Needs => KvStatistics.None;

    /// <summary>Lambda of <see cref="KvPages.Mass"/> and <see cref="KvPages.Peak"/>, per sampled step, above 0 and at most 1. The default value is 1: all steps weigh alike.</summary>
    public virtual float Decay => 1f;

    /// <summary>First tokens whose pages are fixed, 0 or more. The default value is 4, as in StreamingLLM.</summary>
    public int SinkTokens
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 4;

    /// <summary>Newest tokens whose pages are fixed, at least 1. The default value is 64.</summary>
    public int WindowTokens
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            field = value;
        }
    } = 64;

    /// <summary>Whether it drops pages after a step although no bytes are asked for. The default value is false.</summary>
    public virtual bool ActsUnasked => false;

    /// <summary>
    /// Part of its even share that every segment (<see cref="KvPages.SegmentStarts"/>) keeps while others can give, 0..1. The default
    /// value is 0.2.
    /// </summary>
    public float SegmentFloor
    {
        get;
        init => field = Share(value);
    } = 0.2f;

    /// <summary>What it remembers of one sequence between plans, or null. Used by one thread at a time; a fork begins with a new one.</summary>
    /// <param name="geometry">Shape of the model.</param>
    public virtual object? CreateState(KvGeometry geometry) => null;

    /// <summary>
    /// Says what becomes of each page. Frees at least <paramref name="bytesToFree"/> bytes if the pages allow it, and less than a page per row
    /// beyond it; touches no fixed page, and none of 0 bytes.
    /// </summary>
    /// <param name="pages">The sequence's pages.</param>
    /// <param name="bytesToFree">Bytes to free; 0 where nothing binds: then only what <see cref="ActsUnasked"/> drops pages.</param>
    /// <param name="plan">One transition per page, overwritten.</param>
    /// <param name="state">What <see cref="CreateState"/> gave for this sequence; null plans without memory.</param>
    /// <exception cref="KvUnsupportedException">A statistic of <see cref="Needs"/> is missing.</exception>
    public abstract void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state);

    /// <summary>
    /// Pages of one row that stay whatever comes: sinks and window, which a budget must hold. Open pages and those of the step under way
    /// come on top.
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
