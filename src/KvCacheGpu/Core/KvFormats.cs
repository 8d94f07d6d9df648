namespace KvCacheGpu;

/// <summary>The formats that sealed pages lie in: a pair that attention reads (<see cref="PageFormats.IsPair"/>).</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Key">Format of the keys.</param>
/// <param name="Value">Format of the values.</param>
public readonly record struct KvFormats(PageFormat Key, PageFormat Value)
{
    /// <summary>What <see cref="PageFormats.IsPair"/> takes, for error texts.</summary>
    internal const string ExpectedPair = "a format with itself, t4/v4, t3/v3, t2/v2, or i8 with any";

    /// <summary>
    /// Returns true if a page that was sealed in these formats may be demoted to others: to fewer bits, from full precision to any, from I8 to T
    /// and V, and from T and V to fewer bits of the same kind.
    /// </summary>
    /// <param name="target">The other formats.</param>
    public bool MayBecome(KvFormats target) => Ladder.Allows(this, target, default);

    /// <summary>As people read it, "t4/v4".</summary>
    public override string ToString() => $"{Name(Key)}/{Name(Value)}";

    private static string Name(PageFormat format) => Enum.IsDefined(format) ? format.Name() : $"{(int)format}";
}
