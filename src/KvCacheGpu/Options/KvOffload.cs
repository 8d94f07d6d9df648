using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Host memory for pages that a policy lets go (<see cref="KvCacheOptions.Offload"/>): they leave the device, and come back for each attention that asks for them, so that a sequence may be
/// larger than the device's budget.
/// </summary>
/// <remarks>
/// Of each layer and KV head, an attention reads all resident pages, and those in host memory: all of them, or with <see cref="SelectedPages"/> those whose keys agree best with the queries, by a
/// sketch of each page's keys (<see cref="KeySketch"/>: a bit for each element) that lies beside it. Where all are read and find a place at once, the output is that of a cache which holds the whole sequence, bit for bit. Where they do not, they come in several
/// launches whose outputs are merged in host memory, exact to a rounding for each; for an output on a device the host waits there.
/// Thread safety: it never changes.
/// </remarks>
/// <param name="BudgetBytes">Bytes of host memory that pages may take, above 0. Pages beyond it are dropped.</param>
public sealed record KvOffload(long BudgetBytes)
{
    private const int Usual = 32;

    /// <summary>
    /// Pages of the device that are kept for those that come back, of the cache's budget: at least one for each KV head. What came last stays there until the place is needed, so that
    /// the next step does not copy it again. The default value is null: twice as many as <see cref="SelectedPages"/> for each KV head, or 64 for each, but no more than a quarter of what the budget holds beyond the least.
    /// </summary>
    public int? StagedPages { get; init; }

    /// <summary>
    /// Pages in host memory that an attention reads at most for each token of a step, of each layer and KV head, at least 1; fewer where <see cref="StagedPages"/> do not hold so many for all rows. A step of many tokens, as a
    /// prompt's, that may read so many reads all, in several launches if need be. The default value is null: all, always.
    /// </summary>
    public int? SelectedPages { get; init; }

    /// <summary><see cref="StagedPages"/> where neither it nor a budget says how many.</summary>
    /// <param name="kvHeads">KV heads of a layer.</param>
    internal long UsualPlaces(int kvHeads) => 2L * kvHeads * (SelectedPages ?? Usual);
}
