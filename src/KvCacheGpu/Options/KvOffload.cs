namespace KvCacheGpu;

/// <summary>
/// Host memory for pages that a policy lets go (<see cref="KvCacheOptions.Offload"/>): they leave the device, and come back for each attention that asks for them, so that a sequence may be
/// larger than the device's budget.
/// </summary>
/// <remarks>
/// Of each layer and KV head, an attention reads all resident pages, and of those in host memory as many as <see cref="StagedPages"/> and <see cref="SelectedPages"/> allow. All of them: the
/// output is that of a cache which holds the whole sequence, bit for bit. Fewer: those whose keys agree best with the queries, by the mean and deviation that each page carries.
/// Thread safety: it never changes.
/// </remarks>
/// <param name="BudgetBytes">Bytes of host memory that pages may take, above 0. Pages beyond it are dropped.</param>
public sealed record KvOffload(long BudgetBytes)
{
    private const int Usual = 32;

    /// <summary>
    /// Pages of the device that are kept for those that come back, of the cache's budget: at least one for each KV head. What came last stays there until the place is needed, so that
    /// the next step does not copy it again. The default value is null: twice as many as <see cref="SelectedPages"/> for each KV head, or 64 for each.
    /// </summary>
    public int? StagedPages { get; init; }

    /// <summary>
    /// Pages in host memory that one attention reads at most, of each layer and KV head, at least 1. The default value is null: as many as <see cref="StagedPages"/> hold for the sequences of the step.
    /// </summary>
    public int? SelectedPages { get; init; }

    /// <summary><see cref="StagedPages"/>, or what stands for it.</summary>
    /// <param name="kvHeads">KV heads of a layer.</param>
    internal int PlacesFor(int kvHeads) => StagedPages ?? (int)Math.Min(int.MaxValue, 2L * kvHeads * (SelectedPages ?? Usual));
}
