namespace KvCacheGpu;

/// <summary>How the parts of a group tile the model: which part holds a row, and as which row of its own; and what each part is made with.</summary>
internal sealed class GroupShape
{
    private readonly int[] _partOf;
    private readonly int[] _ownRow;

    /// <exception cref="KvConfigurationException">E003: an option is out of its range, or the parts do not tile the model.</exception>
    public GroupShape(KvGeometry geometry, KvCacheOptions options, IReadOnlyList<KvPart> parts)
    {
        (Geometry, Parts, Classes) = (geometry, [.. parts], CacheCreation.ClassesFor(options, geometry));
        Rows = checked(geometry.Layers * geometry.KvHeads);
        (_partOf, _ownRow) = (new int[Rows], new int[Rows]);
        Array.Fill(_partOf, -1);
        for (int part = 0; part < Parts.Count; part++)
        {
            Place(part, Parts[part]);
        }

        int missing = Array.IndexOf(_partOf, -1);
        Require(missing < 0, Parts.Count, $"every layer and KV head in one of the parts", $"layer {missing / geometry.KvHeads}, KV head {HeadOf(missing)} in none");
    }

    /// <summary>The whole model's shape.</summary>
    public KvGeometry Geometry { get; }

    /// <summary>The parts.</summary>
    public IReadOnlyList<KvPart> Parts { get; }

    /// <summary>The classes of pages, the same in every part.</summary>
    public PageClasses Classes { get; }

    /// <summary>Layers times KV heads.</summary>
    public int Rows { get; }

    /// <summary>The part that holds a row.</summary>
    public int PartOf(int row) => _partOf[row];

    /// <summary>The row in its part.</summary>
    public int OwnRow(int row) => _ownRow[row];

    /// <summary>Rows of a part.</summary>
    public int RowsOf(int part) => Parts[part].Layers * Parts[part].Heads.Count;

    /// <summary>The shape of a part, of a model of this shape but for the size of its pages.</summary>
    public static KvGeometry GeometryOf(KvGeometry whole, KvPart part) =>
        new(part.Layers, whole.GroupSize * part.Heads.Count, part.Heads, whole.KeyWidth, whole.ValueWidth, whole.PageTokens)
        {
            Rope = whole.Rope,
            AttentionScale = whole.AttentionScale,
            LogitSoftCap = whole.LogitSoftCap,
        };

    /// <summary>A number of bytes divided among the parts by the rows that they hold.</summary>
    public long ShareOf(int part, long bytes) => (long)((Int128)bytes * RowsOf(part) / Rows);

    /// <summary>The rows of a part, of key scales of the whole model.</summary>
    public KvKeyScales PartOf(KvKeyScales whole, int part)
    {
        byte[] exponents = new byte[RowsOf(part) * whole.KeyWidth];
        for (int row = 0; row < Rows; row++)
        {
            if (PartOf(row) == part)
            {
                whole.Of(row).CopyTo(exponents.AsSpan(OwnRow(row) * whole.KeyWidth));
            }
        }

        return new KvKeyScales(GeometryOf(Geometry, Parts[part]), exponents);
    }

    /// <summary>Key scales of the whole model from those of its parts; null stands for scales of 1, and is the result if all are.</summary>
    public KvKeyScales? WholeOf(KvKeyScales?[] parts)
    {
        byte[] exponents = new byte[Rows * Geometry.KeyWidth];
        for (int row = 0; row < Rows; row++)
        {
            if (parts[PartOf(row)] is { } own)
            {
                own.Of(OwnRow(row)).CopyTo(exponents.AsSpan(row * Geometry.KeyWidth));
            }
        }

        return Array.TrueForAll(parts, own => own is null) ? null : new KvKeyScales(Geometry, exponents);
    }

    /// <summary>What a part's cache is made with.</summary>
    /// <param name="options">The group's.</param>
    /// <param name="part">The part.</param>
    /// <param name="budget">The whole group's budget for all parts, or null.</param>
    public KvCacheOptions OptionsOf(KvCacheOptions options, int part, long? budget)
    {
        KvPart own = Parts[part];
        KvCacheOptions copy = options.Copy();
        (copy.Device, copy.FirstLayer, copy.Part, copy.ModelRows) = (own.Device, own.FirstLayer, part, Rows);
        copy.KeyScales = options.KeyScales is { } scales ? PartOf(scales, part) : null;
        (copy.MemoryBudgetBytes, copy.MemoryBudgetPercent) = (budget is { } bytes ? ShareOf(part, bytes) : null, null);
        copy.LayerFormats = Enumerable.Range(0, own.Layers).ToDictionary(layer => layer, layer => options.FormatsOf(Geometry, own.FirstLayer + layer));
        copy.EdgeLayers = 0;
        copy.TenantQuotas = options.TenantQuotas?.ToDictionary(
            quota => quota.Key, quota => quota.Value with { Bytes = quota.Value.Bytes is { } most ? ShareOf(part, most) : null });
        copy.Policy = options.Policy is { } policy ? PartPolicy.Of(policy, part == 0 ? Geometry : null) : null;
        if (part > 0)
        {
            // One part speaks for all.
            (copy.PrefixEvents, copy.OnForgottenSequence) = (false, null);
        }

        return copy;
    }

    private void Place(int part, KvPart own)
    {
        (HeadRange heads, HeadRange all) = (own.Heads, Geometry.Heads);
        Require(
            own.Layers > 0 && own.FirstLayer >= 0 && (long)own.FirstLayer + own.Layers <= Geometry.Layers, part,
            $"layers of 0..{Geometry.Layers - 1}, 1 or more", $"{own.Layers} from {own.FirstLayer} on");
        Require(
            heads.Count > 0 && heads.Start >= all.Start && (long)heads.Start + heads.Count <= all.Start + all.Count, part,
            $"KV heads of {all.Start}..{all.Start + all.Count - 1}, 1 or more", $"{heads.Count} from {heads.Start} on");
        for (int row = 0; row < RowsOf(part); row++)
        {
            (int layer, int head) = Math.DivRem(row, heads.Count);
            int at = ((own.FirstLayer + layer) * Geometry.KvHeads) + heads.Start - all.Start + head;
            Require(_partOf[at] < 0, part, "layers and KV heads that no other part has", $"layer {own.FirstLayer + layer}, KV head {HeadOf(at)}, which part {_partOf[at]} has");
            (_partOf[at], _ownRow[at]) = (part, row);
        }
    }

    private int HeadOf(int row) => Geometry.Heads.Start + (Math.Max(row, 0) % Geometry.KvHeads);

    private static void Require(bool holds, int part, string expected, string actual) => OptionsCheck.Require(holds, $"parts[{part}]", expected, actual);
}

/// <summary>
/// Stands for a group's policy in the cache of one part: it asks for the same statistics and keeps the same tokens, and never plans. The group plans, over the
/// rows of all parts.
/// </summary>
/// <param name="policy">The group's.</param>
/// <param name="whole">In the first part, whose sequences hold the policy's memory of the whole ones: the whole model's shape. Else null.</param>
internal sealed class PartPolicy(KvPolicy policy, KvGeometry? whole) : KvPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => policy.Needs;

    /// <inheritdoc/>
    public override float Decay => policy.Decay;

    /// <inheritdoc/>
    public override bool ActsUnasked => whole is not null && policy.ActsUnasked;

    /// <summary>The same, which keeps the group's sinks and window.</summary>
    public static PartPolicy Of(KvPolicy policy, KvGeometry? whole) => new(policy, whole) { SinkTokens = policy.SinkTokens, WindowTokens = policy.WindowTokens };

    /// <inheritdoc/>
    public override object? CreateState(KvGeometry geometry) => whole is null ? null : policy.CreateState(whole);

    /// <inheritdoc/>
    public override int MostKeptPages(int pageTokens) => policy.MostKeptPages(pageTokens);

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state) =>
        throw new InvalidOperationException("a part of a group was asked for a plan: the group plans");
}
