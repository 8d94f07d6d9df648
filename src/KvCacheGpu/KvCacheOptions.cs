using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>What a cache is made with. Read once, when the cache is created; later changes have no effect on it.</summary>
public sealed partial class KvCacheConfig
{
    /// <summary>Where pages live: auto, cuda[:i], opencl[:i], cpu, ilgpu-cpu. The default value is "auto".</summary>
    public string Device { get; set; } = "auto";

    /// <summary>
    /// Tokens that the cache is made for, over all its sequences; also the most that one sequence may reach, evicted tokens counted.
    /// The default value is 4096.
    /// </summary>
    public int MaxTokens { get; set; } = 4096;

    /// <summary>Sequences that live at once, forks counted. Each has its own table rows. The default value is 8.</summary>
    public int MaxSequences { get; set; } = 8;

    /// <summary>Tokens of one step at most, over all its sequences. The default value is 512.</summary>
    public int MaxBatchTokens
    {
        get => ChosenBatchTokens ?? 512;
        set => ChosenBatchTokens = value;
    }

    /// <summary>
    /// Format of sealed keys. The default value is <see cref="PageFormat.F16"/>. With <see cref="ValueFormat"/> a pair that attention reads:
    /// a format with itself, T4 with V4, T3 with V3, T2 with V2, or I8 with any.
    /// </summary>
    public PageFormat KeyFormat
    {
        get => ChosenKeyFormat ?? PageFormat.F16;
        set => ChosenKeyFormat = value;
    }

    /// <summary>Format of sealed values. The default value is <see cref="PageFormat.F16"/>.</summary>
    public PageFormat ValueFormat
    {
        get => ChosenValueFormat ?? PageFormat.F16;
        set => ChosenValueFormat = value;
    }

    /// <summary>Formats of single layers, in place of <see cref="KeyFormat"/> and <see cref="ValueFormat"/>. The default value is null: none.</summary>
    public IReadOnlyDictionary<int, KvFormats>? LayerFormats { get; set; }

    /// <summary>
    /// Layers at each end whose keys and values stay in I8 where they would have 4 bits or fewer, in models of 8 layers and more; 0 treats all
    /// layers alike, and layers of <see cref="LayerFormats"/> are as said there. The default value is 2.
    /// </summary>
    public int EdgeLayers { get; set; } = 2;

    /// <summary>
    /// What sealed pages may be demoted to (<see cref="KvSequence.Demote(int, int, int, KvFormats)"/>). For each, steps leave a page's room free. The default value is
    /// empty: nothing.
    /// </summary>
    public IReadOnlyList<KvFormats> DemotionFormats { get; set; } = [];

    /// <summary>What becomes of keys and values that are no finite number. The default value is <see cref="NonFinitePolicy.Reject"/>.</summary>
    public NonFinitePolicy NonFinite { get; set; } = NonFinitePolicy.Reject;

    /// <summary>
    /// Format of open pages where no sealed format is full precision: F32, F16 or BF16. Where one is, it is that of open pages too, of all
    /// layers; where several are, open pages are F32. The default value is <see cref="PageFormat.F16"/>.
    /// </summary>
    public PageFormat FullPrecision
    {
        get => ChosenFullPrecision ?? PageFormat.F16;
        set => ChosenFullPrecision = value;
    }

    /// <summary>
    /// Bytes that tables, pages, bookkeeping and working memory may take together. The default value is null: what
    /// <see cref="MaxTokens"/> take. One that is too small is refused when the cache is made, with the least that would do: what one sequence needs
    /// that grows by one token a step. Steps of up to <see cref="MaxBatchTokens"/>, more sequences, and steps at once need more.
    /// </summary>
    public long? MemoryBudgetBytes { get; set; }

    /// <summary>
    /// The same in percent of the dense F16 bytes of <see cref="MaxTokens"/>, above 0. The default value is null. Excludes
    /// <see cref="MemoryBudgetBytes"/>.
    /// </summary>
    public double? MemoryBudgetPercent { get; set; }

    /// <summary>Seed of the rotation's signs; pages of different seeds do not mix. The default value is 0.</summary>
    public ulong RotationSeed { get; set; }

    /// <summary>
    /// What goes and what shrinks where the budget binds. The default value is null: nothing; a step that does not fit is refused. With a policy,
    /// the budget need not hold <see cref="MaxTokens"/>: only its sinks, its window and the open pages.
    /// </summary>
    /// <remarks>
    /// The least budget that is accepted is enough for one sequence that grows token by token, for ever. A step of more tokens can need more open pages
    /// at once than it has room for, and is then refused (E001) however often it is tried: give a larger budget, or take shorter steps.
    /// </remarks>
    public KvPolicy? Policy { get; set; }

    /// <summary>
    /// Part of the pages' share of a configured budget that a plan brings them down to, above 0 and at most 1: what is free above it is for
    /// steps to begin in. The default value is 0.9.
    /// </summary>
    public double Watermark
    {
        get => ChosenWatermark ?? 0.9;
        set => ChosenWatermark = value;
    }

    /// <summary>
    /// Whether pages that a plan drops are merged with one beside them that it keeps: of all their tokens a page of the best stays, by the attention
    /// that queries to come are expected to pay. Frees what dropping would. Takes a policy and <see cref="KvGeometry.Rope"/>, and queries in
    /// host memory; layers that look back through a window are left alone. The default value is false.
    /// </summary>
    public bool MergePages { get; set; }

    /// <summary>
    /// Steps from plan to plan, at least 1; a step that seals pages plans anyway. The default value is 64: a plan takes less than what attention
    /// to the same pages takes, so that one in 64 steps is a small part of decode.
    /// </summary>
    public int PlanEvery { get; set; } = 64;

    /// <summary>Steps from one that pages are scored by to the next, at least 1. The default value is 1: all.</summary>
    public int ScoreEvery { get; set; } = 1;

    /// <summary>
    /// Last tokens of a prompt whose attention <see cref="KvStatistics.WindowMass"/> sums up, 1..64. The default value is 64. A step of as many
    /// tokens or more begins the sum anew, a shorter one of several adds to it.
    /// </summary>
    public int ObservedQueries { get; set; } = KernelBatch.MaxObserved;

    /// <summary>
    /// Whether sealed pages stay resident after their sequences, for sequences of the same prefix to begin with
    /// (<see cref="KvSequence.Reuse"/>). The default value is false: who never reuses pays for no hashing, and
    /// <see cref="KvCache.AllocatedBytes"/> falls when sequences go.
    /// </summary>
    public bool PrefixReuse { get; set; }

    /// <summary>Whether stored and removed prefixes are noted until <see cref="KvCache.TakePrefixEvents"/>. The default value is false.</summary>
    public bool PrefixEvents { get; set; }

    /// <summary>What the keys and values are of; part of every prefix's name. The default value is null.</summary>
    /// <exception cref="ArgumentException">Longer than 64 KiB of UTF-8, or half of a surrogate pair in it, which UTF-8 cannot say.</exception>
    public string? ModelFingerprint
    {
        get;
        set => field = SnapshotLimits.Checked(value, nameof(ModelFingerprint));
    }

    /// <summary>
    /// For finding errors: fills freed pages with 0xDB and fresh ones with NaN, so that a stale read shows. The default value is false.
    /// </summary>
    public bool PoisonPages { get; set; }

    /// <summary>A copy that changes apart from this one.</summary>
    public KvCacheConfig Copy()
    {
        var copy = (KvCacheConfig)MemberwiseClone();
        copy.LayerFormats = LayerFormats is null ? null : new Dictionary<int, KvFormats>(LayerFormats);
        copy.DemotionFormats = DemotionFormats is null ? null! : [.. DemotionFormats];
        copy.CopyGroups();
        return copy;
    }
}
