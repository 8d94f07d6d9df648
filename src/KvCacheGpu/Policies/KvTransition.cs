namespace KvCacheGpu;

/// <summary>What a plan does with a page.</summary>
public enum KvTransitionKind : byte
{
    /// <summary>It stays as it is.</summary>
    Keep,

    /// <summary>It leaves the sequence: attention ignores its tokens from then on, as a mask of minus infinity would.</summary>
    Drop,

    /// <summary>It is written again in a class of fewer bytes.</summary>
    Demote,
}

/// <summary>A plan for one page. The default value is <see cref="Keep"/>.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public readonly record struct KvTransition
{
    private KvTransition(KvTransitionKind kind, int target) => (Kind, Class) = (kind, (byte)target);

    /// <summary>What the plan does with the page.</summary>
    public KvTransitionKind Kind { get; }

    /// <summary>The class that a demoted page becomes: an index into <see cref="KvPages.Ladder"/>. 0 for the other kinds.</summary>
    public byte Class { get; }

    /// <summary>The page stays as it is.</summary>
    public static KvTransition Keep => default;

    /// <summary>The page leaves the sequence.</summary>
    public static KvTransition Drop => new(KvTransitionKind.Drop, 0);

    /// <summary>The page becomes one of class <paramref name="target"/>.</summary>
    /// <param name="target">An index into <see cref="KvPages.Ladder"/>, 0..255.</param>
    public static KvTransition DemoteTo(int target)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(target);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(target, byte.MaxValue);
        return new KvTransition(KvTransitionKind.Demote, target);
    }
}
