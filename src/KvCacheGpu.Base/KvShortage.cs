namespace KvCacheGpu;

/// <summary>What a call lacked, and what <see cref="KvShortage.Needed"/> and <see cref="KvShortage.Free"/> count.</summary>
public enum KvResource
{
    /// <summary>Bytes of the memory budget. Free are those that nothing uses, and those of pages that only wait for prefixes to be reused.</summary>
    BudgetBytes,

    /// <summary>
    /// Bytes of pages. The budget has them, but the arena is divided into slabs that each hold pages of one size, and those of the sizes needed
    /// are full. Pages of the same size that go make room, and so does any slab whose last page goes.
    /// </summary>
    SlabBytes,

    /// <summary>Bytes of the memory that a step or a read works in. Other steps and reads hold it and give it back when they end.</summary>
    StepMemoryBytes,

    /// <summary>Bytes of the device's own memory. Free is 0, since devices do not say what they have left; Needed is the least that was asked for.</summary>
    DeviceBytes,

    /// <summary>Sequences that may live at once (<c>KvCacheOptions.MaxSequences</c>).</summary>
    Sequences,

    /// <summary>Tokens that one sequence may still receive, up to <c>KvCacheOptions.MaxSequenceTokens</c>.</summary>
    SequenceTokens,

    /// <summary>Bytes of a tenant's quota.</summary>
    TenantBytes,

    /// <summary>Tokens of a tenant's quota.</summary>
    TenantTokens,

    /// <summary>Bytes of host memory for sequences that are swapped out (<c>KvCacheOptions.SwapBudgetBytes</c>).</summary>
    SwapBytes,
}

/// <summary>
/// Says why a call does not fit, in numbers: it needed so much of a resource, and so much was free. Nothing has changed. Where the call is the only one that
/// waits, it fits once <see cref="Missing"/> more of the resource is free. Thread safety: it never changes.
/// </summary>
public readonly record struct KvShortage
{
    /// <summary>Says what is short.</summary>
    /// <param name="what">What was to be done: "a step".</param>
    /// <param name="resource">The resource.</param>
    /// <param name="needed">How much the call needs.</param>
    /// <param name="free">How much is free; below 0 counts as 0.</param>
    public KvShortage(string what, KvResource resource, long needed, long free) =>
        (What, Resource, Needed, Free) = (what, resource, needed, Math.Max(0, free));

    /// <summary>What was to be done, as the message names it: "a step", "a fork".</summary>
    public string What { get; }

    /// <summary>The resource that is short; it says what the numbers count.</summary>
    public KvResource Resource { get; }

    /// <summary>How much the call needed, in <see cref="Unit"/>s. Of a step and a load, the room that they have to leave free for demotions is part of it.</summary>
    public long Needed { get; }

    /// <summary>How much was free, in <see cref="Unit"/>s; 0 or more, and less than <see cref="Needed"/>.</summary>
    public long Free { get; }

    /// <summary><see cref="Needed"/> without <see cref="Free"/>.</summary>
    public long Missing => Needed - Free;

    /// <summary>The <c>KvSequence.Id</c> of the sequence concerned. The default value is null: none, a new one, or several together.</summary>
    public long? Sequence { get; init; }

    /// <summary>The tenant whose quota is short. The default value is null: no quota is, or it is that of the sequences without a tenant.</summary>
    public string? Tenant { get; init; }

    /// <summary>True if another step or read holds what is missing: the same call can succeed once that has ended.</summary>
    public bool IsTransient => Resource == KvResource.StepMemoryBytes;

    /// <summary>What the numbers count: "bytes", "tokens" or "sequences".</summary>
    public string Unit => Resource switch
    {
        KvResource.Sequences => "sequences",
        KvResource.SequenceTokens or KvResource.TenantTokens => "tokens",
        _ => "bytes",
    };

    /// <summary>The shortage as a sentence, without a full stop: "a step of sequence 3 needs 12288 bytes of the memory budget; 4096 are free".</summary>
    public override string ToString()
    {
        string whose = Sequence is { } id ? $" of sequence {id}" : string.Empty;
        return $"{What}{whose} needs {Needed} {Of()}{(Resource == KvResource.DeviceBytes ? "; the device has less" : $"; {Free} are free")}";
    }

    private string Of() => Resource switch
    {
        KvResource.BudgetBytes => "bytes of the memory budget",
        KvResource.SlabBytes => "bytes in slabs of its pages' sizes",
        KvResource.StepMemoryBytes => "bytes of working memory, which other steps hold",
        KvResource.DeviceBytes => "bytes of device memory",
        KvResource.SwapBytes => "bytes of host memory for what is swapped out",
        KvResource.Sequences => "of the places for live sequences",
        KvResource.SequenceTokens => "of the tokens that a sequence may have",
        _ => $"{Unit} of the quota of {(Tenant is null ? "the sequences without a tenant" : $"tenant '{Tenant}'")}",
    };
}
