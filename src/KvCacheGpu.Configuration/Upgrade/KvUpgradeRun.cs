namespace KvCacheGpu.Configuration;

/// <summary>How far an upgrade is.</summary>
public enum KvUpgradeState
{
    /// <summary>Begun; the next migrate goes on.</summary>
    Running,

    /// <summary>Done and verified.</summary>
    Done,

    /// <summary>Being undone; the next migrate or rollback goes on.</summary>
    RollingBack,

    /// <summary>Undone: all is as before.</summary>
    RolledBack,
}

/// <summary>An upgrade as the journal knows it.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Id">Its name, made of the UTC time; also that of its backup.</param>
/// <param name="Created">When it began, UTC.</param>
/// <param name="State">How far it is.</param>
/// <param name="Steps">Its steps in order.</param>
public sealed record KvUpgradeRun(string Id, DateTimeOffset Created, KvUpgradeState State, IReadOnlyList<KvUpgradeEntry> Steps);

/// <summary>A step of an upgrade as the journal knows it.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Name">The step's name.</param>
/// <param name="Plan">What it planned; null where it had nothing to do.</param>
/// <param name="Result">What it did; null where it has not ended.</param>
public sealed record KvUpgradeEntry(string Name, string? Plan, string? Result);

/// <summary>A line of the checklist, told as it happens.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Phase">Before, Migration or After.</param>
/// <param name="Mark">Done, nothing to do, or the user's to do.</param>
/// <param name="Title">What the guide asks for.</param>
/// <param name="Detail">What became of it.</param>
public sealed record KvUpgradeLine(string Phase, KvUpgradeMark Mark, string Title, string Detail)
{
    /// <inheritdoc/>
    public override string ToString() => $"[{Mark switch { KvUpgradeMark.Done => 'x', KvUpgradeMark.Nothing => '-', _ => ' ' }}] {Title}: {Detail}";
}

/// <summary>What a line of the checklist says.</summary>
public enum KvUpgradeMark
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>Nothing to do.</summary>
    Nothing,

    /// <summary>Only the user can do it.</summary>
    Yours,
}
