using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The formats that a sealed page may be demoted to, step by step: full precision, then {I8, T, V}, then fewer bits of the same kind, at most two lossy encodings of a
/// part in all. What went through more would have to come from an exact copy.
/// </summary>
internal static class Ladder
{
    /// <summary>Lossy encodings of one part at most: the first, and one more.</summary>
    public const int MostEncodings = 2;

    /// <summary>Returns true if a page may go from one layout to another; a part of the same format is copied, whatever it went through.</summary>
    public static bool Allows(PageLayout from, PageLayout to, Encodings before) =>
        Allows(new KvFormats(from.KeyFormat, from.ValueFormat), new KvFormats(to.KeyFormat, to.ValueFormat), before);

    /// <inheritdoc cref="Allows(PageLayout, PageLayout, Encodings)"/>
    public static bool Allows(KvFormats from, KvFormats to, Encodings before) =>
        from != to && Allows(from.Key, to.Key, before.Key) && Allows(from.Value, to.Value, before.Value);

    /// <summary>The classes that pages of a class may become, at once or one after the other: bit c for class c.</summary>
    public static int Reachable(IReadOnlyList<PageLayout> classes, int from, int targets)
    {
        var seen = new HashSet<(int, Encodings)>();
        int mask = 0;
        Follow(from, default(Encodings).After(classes[KernelShape.Open], classes[from]));
        return mask;

        void Follow(int pageClass, Encodings encodings)
        {
            for (int target = 1; target < classes.Count; target++)
            {
                Encodings after = encodings.After(classes[pageClass], classes[target]);
                if ((targets & (1 << target)) != 0 && Allows(classes[pageClass], classes[target], encodings) && seen.Add((target, after)))
                {
                    mask |= 1 << target;
                    Follow(target, after);
                }
            }
        }
    }

    private static bool Allows(PageFormat from, PageFormat to, int encodings) =>
        from == to || (encodings < MostEncodings && to.BitsPerElement() < from.BitsPerElement() && from switch
        {
            PageFormat.F32 or PageFormat.F16 or PageFormat.BF16 => true,
            PageFormat.I8 => to is >= PageFormat.T4 and <= PageFormat.V2,
            PageFormat.T4 or PageFormat.T3 => to.IsCentered(),
            PageFormat.V4 or PageFormat.V3 => to is PageFormat.V3 or PageFormat.V2,
            _ => false,
        });
}

/// <summary>How many lossy encodings the keys and the values of a page went through.</summary>
internal readonly record struct Encodings(int Key, int Value)
{
    // Two bits each.
    private const int Most = 3;

    /// <summary>Both in four bits.</summary>
    public int Packed => Key | (Value << 2);

    /// <summary>Encoded as often as can be counted: nothing may be demoted further.</summary>
    public static Encodings Full => new(Most, Most);

    public static Encodings Of(int packed) => new(packed & Most, (packed >> 2) & Most);

    /// <summary>The counts once the page is written from one layout to another.</summary>
    public Encodings After(PageLayout from, PageLayout to) =>
        new(After(Key, from.KeyFormat, to.KeyFormat), After(Value, from.ValueFormat, to.ValueFormat));

    private static int After(int encodings, PageFormat from, PageFormat to) =>
        from == to || to.IsFullPrecision() ? encodings : Math.Min(encodings + 1, Most);
}
