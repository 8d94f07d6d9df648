using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Options of a <see cref="KvCache"/>. Every member has an effect. They are read and checked once, when the cache is created: a value
/// that is out of its range, or that does not fit the model, is refused with <see cref="KvConfigurationException"/> (E003), which names the
/// member. Later changes have no effect on the cache.
/// </summary>
/// <remarks>Thread safety: it is set up by one thread; a cache takes a copy.</remarks>
public sealed class KvCacheOptions
{
    /// <summary>What instruments, traces and logs call the cache, so that several are told apart (<see cref="KvDiagnostics"/>). The default value is null: it has no name.</summary>
    public string? Name { get; set; }

    /// <summary>Where pages live: auto, cuda[:i], opencl[:i], cpu, ilgpu-cpu. The default value is "auto". On a host's own accelerator: auto, or its device.</summary>
    public string Device { get; set; } = "auto";

    /// <summary>
    /// Tokens that the cache is made for, over all its sequences: without a memory budget, as many find room, however they are spread.
    /// The default value is 4096.
    /// </summary>
    public int MaxTokens { get; set; } = 4096;

    /// <summary>
    /// Tokens that one sequence may grow to, evicted ones counted. Every place for a sequence takes a few bytes for each thousand of them, also while it is empty.
    /// The default value is null: <see cref="MaxTokens"/>. It may be larger than that where a policy evicts.
    /// </summary>
    public int? MaxSequenceTokens { get; set; }

    /// <summary>
    /// Tokens at a sequence's end that a rollback (<see cref="KvSequence.Truncate"/>) takes off exactly, 0 to 1024: a page is sealed once it is full and this
    /// many tokens follow it, so that none of its tokens is encoded a second time. The larger it is, the more tokens stay in full precision: up to this many and
    /// a page, of each sequence.
    /// The default value is 16.
    /// </summary>
    public int ExactRollbackTokens { get; set; } = 16;

    /// <summary>
    /// Sequences that live at once, forks counted. Each place takes some 200 bytes for each layer and KV head while it is empty, and without a memory budget
    /// also reserves room for its open pages. The default value is 8.
    /// </summary>
    public int MaxSequences { get; set; } = 8;

    /// <summary>Tokens of one step at most, over all its sequences. The default value is 512.</summary>
    public int MaxBatchTokens { get; set; } = 512;

    /// <summary>
    /// Format of sealed keys. The default value is <see cref="PageFormat.F16"/>. Together with <see cref="ValueFormat"/> it must be a pair that
    /// attention reads: a format with itself, T4 with V4, T3 with V3, T2 with V2, or I8 with any.
    /// </summary>
    public PageFormat KeyFormat { get; set; } = PageFormat.F16;

    /// <summary>Format of sealed values. The default value is <see cref="PageFormat.F16"/>.</summary>
    public PageFormat ValueFormat { get; set; } = PageFormat.F16;

    /// <summary>
    /// Formats of single layers, by layer, in place of <see cref="KeyFormat"/> and <see cref="ValueFormat"/>. The default value is null: all
    /// layers have those two.
    /// </summary>
    public IReadOnlyDictionary<int, KvFormats>? LayerFormats { get; set; }

    /// <summary>
    /// Layers at each end of the model whose keys and values stay in I8 where they would have 4 bits or fewer. It applies to models of 8
    /// layers and more; 0 treats all layers alike. A layer of <see cref="LayerFormats"/> has the formats given there. The default value is 2.
    /// </summary>
    public int EdgeLayers { get; set; } = 2;

    /// <summary>
    /// Formats that sealed pages may be demoted to (<see cref="KvSequence.Demote(int, int, int, KvFormats)"/>). For each, steps leave the room
    /// of one page free. The default value is empty: pages are not demoted.
    /// </summary>
    public IReadOnlyList<KvFormats> DemotionFormats { get; set; } = [];

    /// <summary>What is done with keys and values that are not finite numbers. The default value is <see cref="NonFinitePolicy.Reject"/>.</summary>
    public NonFinitePolicy NonFinite { get; set; } = NonFinitePolicy.Reject;

    /// <summary>
    /// How precisely attention computes: over pages in I8 and T4 on a processor, and for chunks of prompts on CUDA devices with tensor cores. Elsewhere it is always exact. The default value is
    /// <see cref="KvAttentionPrecision.Exact"/>.
    /// </summary>
    public KvAttentionPrecision AttentionPrecision { get; set; }

    /// <summary>
    /// True if a CUDA device chooses by measurement how attention divides long sequences. The first steps of each size take the ways in turns, and the fastest is taken from then on; nothing
    /// is computed twice, and no call waits. All ways are within the same bound, but their last bits differ, so that two runs may. The default value is false: the same way every time.
    /// </summary>
    public bool MeasureKernels { get; set; }

    /// <summary>
    /// Format of open pages if no sealed format is full precision: F32, F16 or BF16. If one sealed format is full precision, open pages of all
    /// layers have that one; if several are, open pages are F32. The default value is <see cref="PageFormat.F16"/>.
    /// </summary>
    public PageFormat FullPrecision { get; set; } = PageFormat.F16;

    /// <summary>
    /// Bytes that tables, pages, bookkeeping and working memory may take together. The default value is null: as many as
    /// <see cref="MaxTokens"/> need. A budget that is too small is refused when the cache is made, with the least that would do: what one sequence
    /// needs that grows by one token a step. Steps of up to <see cref="MaxBatchTokens"/>, more sequences, and several steps at once need more.
    /// </summary>
    public long? MemoryBudgetBytes { get; set; }

    /// <summary>
    /// The same budget in percent of the dense F16 bytes of <see cref="MaxTokens"/>, above 0. The default value is null. Only one of it and
    /// <see cref="MemoryBudgetBytes"/> may be set.
    /// </summary>
    public double? MemoryBudgetPercent { get; set; }

    /// <summary>
    /// Scales that even out keys before they are rotated into a T format. The default value is null: they are learned from the keys and queries of the first pages
    /// (<see cref="KvCache.KeyScales"/>). <see cref="KvKeyScales.None"/> leaves keys as they are.
    /// </summary>
    public KvKeyScales? KeyScales { get; set; }

    /// <summary>Seed of the rotation's signs; pages of different seeds do not mix. The default value is 0.</summary>
    public ulong RotationSeed { get; set; }

    /// <summary>
    /// Chooses the pages that are demoted or evicted when the budget runs out. The default value is null: none are, and a step that does not fit is
    /// refused. With a policy, the budget need not hold <see cref="MaxTokens"/>, only the policy's sinks, its window and the open pages.
    /// </summary>
    /// <remarks>
    /// The least budget that is accepted is enough for one sequence that grows token by token, without end. A step of more tokens can need more open
    /// pages at once than there is room for, and is then refused (E001) however often it is tried: give a larger budget, or take shorter steps.
    /// </remarks>
    public KvPolicy? Policy { get; set; }

    /// <summary>
    /// Part of the pages' share of a configured budget that a plan brings them down to, above 0 and at most 1. The room above it is free for
    /// steps to begin in. The default value is 0.97. <see cref="KvCache.Watermark"/> changes it later.
    /// </summary>
    public double Watermark { get; set; } = 0.97;

    /// <summary>
    /// True to merge each page that a plan would evict with a page beside it that is kept: of the tokens of both, one page of the best stays,
    /// chosen by the attention that queries to come are expected to pay. This frees as much as evicting would. It needs a policy,
    /// <see cref="KvGeometry.Rope"/>, and queries in host memory; layers that look back through a window are left alone. The default value is false.
    /// </summary>
    public bool MergePages { get; set; }

    /// <summary>
    /// Steps from one plan to the next, at least 1; a step that seals pages plans anyway. The default value is 64: a plan takes less time than
    /// attention to the same pages, so that one in 64 steps is a small part of decoding.
    /// </summary>
    public int PlanEvery { get; set; } = 64;

    /// <summary>
    /// True to keep the attention that the last step paid to every page, for <see cref="KvSequenceReading.PageMass"/>, where no policy asks for it. It takes
    /// 8 bytes for each page and query head, and the time to write them. The default value is false.
    /// </summary>
    public bool PageStatistics { get; set; }

    /// <summary>Steps from one that pages are scored by to the next, at least 1. The default value is 1: every step.</summary>
    public int ScoreEvery { get; set; } = 1;

    /// <summary>
    /// Last tokens of a prompt whose attention <see cref="KvStatistics.WindowMass"/> sums up, 1..64. The default value is 64. A step of as many
    /// tokens or more begins the sum anew, a shorter one of several tokens adds to it.
    /// </summary>
    public int ObservedQueries { get; set; } = KernelBatch.MaxObserved;

    /// <summary>
    /// True to keep sealed pages after their sequences are gone, for sequences of the same prefix to begin with
    /// (<see cref="KvSequence.Reuse"/>). The default value is false: a host that never reuses does not pay for hashing, and
    /// <see cref="KvCache.AllocatedBytes"/> falls when sequences go.
    /// </summary>
    public bool PrefixReuse { get; set; }

    /// <summary>
    /// True to note stored and removed prefixes until <see cref="KvCachePrefixes.TakePrefixEvents"/> takes them. It needs <see cref="PrefixReuse"/>, without
    /// which there are none. The default value is false.
    /// </summary>
    public bool PrefixEvents { get; set; }

    /// <summary>
    /// Places below the device that blocks of prefixes are backed up to and fetched from, the nearest first: <see cref="KvSequence.Reuse"/> finds there what is no longer resident, or
    /// what another process computed. They need <see cref="PrefixReuse"/> and <see cref="ModelFingerprint"/>. The cache borrows them: dispose them after it. The default value is empty.
    /// </summary>
    public IReadOnlyList<KvTier> Tiers { get; set; } = [];

    /// <summary>When blocks are backed up to <see cref="Tiers"/>. The default value is <see cref="KvBackup.WhenSealed"/>.</summary>
    public KvBackup Backup { get; set; }

    /// <summary>
    /// True to fetch several blocks at once from <see cref="Tiers"/>, and the next ones while these are written to the device; false to fetch one after the other. What is
    /// found is the same. With <see cref="Offload"/>, also to copy the pages to the device that the next layer will read, while the host computes; outputs are the same bit for bit. The default value is true.
    /// </summary>
    public bool EnablePrefetch { get; set; } = true;

    /// <summary>
    /// Blocks that are fetched, and backed up, at once, 1..64. Where there are tiers, as many take host memory beside the budget, and twice as many more while a fetch is under way
    /// (<see cref="KvLayouts.BlockBytes"/>). The default value is 8.
    /// </summary>
    public int PrefetchSize { get; set; } = 8;

    /// <summary>
    /// Prompt tokens that the host computes in a second. A tier from which a token lately took longer to fetch is not asked. The default value is null: every tier is asked.
    /// </summary>
    public double? RecomputeTokensPerSecond { get; set; }

    /// <summary>
    /// Host memory for pages that <see cref="Policy"/> lets go: attention goes on reading them. The default value is null: they are lost. It needs a policy, and goes without
    /// <see cref="MergePages"/>; groups have none.
    /// </summary>
    public KvOffload? Offload { get; set; }

    /// <summary>
    /// Bytes of host memory that sequences may take which were swapped out (<see cref="KvCacheSwapping.SwapOutAsync"/>), 0 or more. The default value is null: as many as there are.
    /// </summary>
    public long? SwapBudgetBytes { get; set; }

    /// <summary>
    /// Which model the keys and values are of; part of every prefix's name, and compared when a snapshot is loaded. Caches that share a tier (<see cref="Tiers"/>) and are of different models, or
    /// of different layers of one that a host has cut by itself, need different names. The default value is null.
    /// </summary>
    /// <exception cref="ArgumentException">Longer than 64 KiB of UTF-8, or half of a surrogate pair in it, which UTF-8 cannot say.</exception>
    public string? ModelFingerprint
    {
        get;
        set => field = SnapshotLimits.Checked(value, nameof(ModelFingerprint));
    }

    /// <summary>
    /// What the sequences of single tenants may hold together, by tenant. The default value is null: as much as there is room for.
    /// <see cref="KvCacheTenants.SetTenantQuota"/> changes them later, and sets that of the sequences without a tenant.
    /// </summary>
    public IReadOnlyDictionary<string, KvTenantQuota>? TenantQuotas { get; set; }

    /// <summary>
    /// True to tell instruments what each tenant's sequences hold, under the tenant's name (<see cref="KvDiagnostics"/>). The default value is false: names of tenants stay out of metrics, which keep a series for
    /// each.
    /// </summary>
    public bool MeasureTenants { get; set; }

    /// <summary>
    /// For finding errors: fills freed pages with 0xDB and fresh ones with NaN, so that a stale read shows. The default value is false.
    /// </summary>
    public bool PoisonPages { get; set; }

    /// <summary>
    /// Told of each sequence that nobody disposed, once its memory is back (<see cref="KvCache.ForgottenSequences"/>). The default value is null.
    /// </summary>
    /// <remarks>
    /// Called on the thread, and inside of the call, that gave it back: one that makes a sequence or begins a step. It must not use that call's sequences. What it
    /// throws comes out of that call, which has then done nothing.
    /// </remarks>
    public Action<KvForgottenSequence>? OnForgottenSequence { get; set; }

    /// <summary>First layer of the whole model that the cache has, where it is a part of a group.</summary>
    internal int FirstLayer { get; set; }

    /// <summary>Which part of a group the cache is, 0 for the first and for one that is no part.</summary>
    internal int Part { get; set; }

    /// <summary>Rows of the whole model, where the cache is a part of a group; else null.</summary>
    internal long? ModelRows { get; set; }

    /// <summary>Sequences of one step at most: each has at least one token.</summary>
    internal int MostBatched => Math.Min(MaxSequences, MaxBatchTokens);

    /// <summary><see cref="MaxSequenceTokens"/>, or what stands for it.</summary>
    internal int LongestSequence => MaxSequenceTokens ?? MaxTokens;

    /// <summary>Statistics that the policy and merging ask for.</summary>
    internal KvStatistics Needs => (Policy?.Needs ?? KvStatistics.None) | (MergePages ? KvStatistics.FutureQueries : KvStatistics.None);

    /// <summary>A copy that changes apart from this one.</summary>
    public KvCacheOptions Copy()
    {
        var copy = (KvCacheOptions)MemberwiseClone();
        copy.LayerFormats = LayerFormats is null ? null : new Dictionary<int, KvFormats>(LayerFormats);
        copy.TenantQuotas = TenantQuotas is null ? null : new Dictionary<string, KvTenantQuota>(TenantQuotas);
        copy.DemotionFormats = DemotionFormats is null ? null! : [.. DemotionFormats];
        copy.Tiers = Tiers is null ? null! : [.. Tiers];
        return copy;
    }

    /// <summary>
    /// Formats that a layer's pages are sealed in: those of <see cref="LayerFormats"/>, else <see cref="KeyFormat"/> and
    /// <see cref="ValueFormat"/>, at the edges (<see cref="EdgeLayers"/>) at least I8.
    /// </summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="layer">Layer.</param>
    /// <exception cref="ArgumentOutOfRangeException">The model has no such layer.</exception>
    public KvFormats FormatsOf(KvGeometry geometry, int layer)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        return FormatPlan.FormatsOf(this, geometry, layer);
    }

    /// <summary>The budget in bytes, or null if none is set.</summary>
    internal long? BudgetFor(KvGeometry geometry) => MemoryBudgetBytes
        ?? (MemoryBudgetPercent is { } percent ? (long)(geometry.DenseF16Bytes(MaxTokens) * (percent / 100)) : null);

    /// <inheritdoc cref="OptionsCheck.ClassesFor"/>
    internal PageClasses ClassesFor(KvGeometry geometry) => OptionsCheck.ClassesFor(this, geometry);

    /// <inheritdoc cref="FormatPlan.TextOf"/>
    internal string? LayerFormatsText(KvGeometry geometry) => FormatPlan.TextOf(this, geometry);
}

/// <summary>A sequence that nobody disposed, as <see cref="KvCacheOptions.OnForgottenSequence"/> is told of it. Thread safety: it never changes.</summary>
/// <param name="Name">Its <see cref="KvSequence.Name"/>, or null.</param>
/// <param name="Tenant">Its <see cref="KvSequenceOptions.Tenant"/>, or null.</param>
/// <param name="Length">Tokens that it had.</param>
public readonly record struct KvForgottenSequence(string? Name, string? Tenant, int Length);
