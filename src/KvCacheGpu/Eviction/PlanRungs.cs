using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The ladder as plans see it: first every page class, to be demoted to; then, for pages that may be demoted, one rung for each class and set
/// of targets, because what a page may become depends on its layer and on what it went through, not on its class alone.
/// </summary>
internal sealed class PlanRungs
{
    private readonly KvRung[] _rungs = new KvRung[byte.MaxValue + 1];
    private readonly int _classes;
    private int _count;

    public PlanRungs(PageClasses classes)
    {
        _classes = classes.Count;
        for (int c = 0; c < _classes; c++)
        {
            PageLayout layout = classes.Shape.Classes[c];
            _rungs[c] = new KvRung(layout.Bytes, ErrorOf(layout.KeyFormat), ErrorOf(layout.ValueFormat), 0);
        }

        Clear();
    }

    public ReadOnlySpan<KvRung> Ladder => _rungs.AsSpan(0, _count);

    public void Clear() => _count = _classes;

    /// <summary>The rung of a page.</summary>
    /// <param name="pageClass">Its class.</param>
    /// <param name="targets">Classes that it may be demoted to, bit c for class c.</param>
    public byte Of(int pageClass, int targets)
    {
        if (targets == 0)
        {
            return (byte)pageClass;
        }

        return Of(pageClass, _rungs[pageClass] with { DemotesTo = targets });
    }

    /// <summary>The rung here of a rung of other rungs of the same classes.</summary>
    public byte Of(PlanRungs others, byte rung) => rung < _classes ? rung : Of(Array.IndexOf(_rungs, others._rungs[rung] with { DemotesTo = 0 }, 0, _classes), others._rungs[rung]);

    // Where there is no place for one more, the page counts as one that is not demoted.
    private byte Of(int pageClass, KvRung wanted)
    {
        for (int i = _classes; i < _count; i++)
        {
            if (_rungs[i] == wanted)
            {
                return (byte)i;
            }
        }

        if (_count == _rungs.Length)
        {
            return (byte)pageClass;
        }

        _rungs[_count] = wanted;
        return (byte)_count++;
    }

    // |x - x'|^2 / |x|^2 of Gaussian vectors: that of the levels for T and V, half a step's square / 3 of the usual largest element for the rest.
    private static float ErrorOf(PageFormat format) => format switch
    {
        PageFormat.F32 => 0,
        PageFormat.F16 => 3e-8f,
        PageFormat.BF16 => 2e-6f,
        PageFormat.I8 or PageFormat.Q8 => 6e-5f,
        PageFormat.FP8 => 7e-4f,
        PageFormat.T4 => .0095f,
        PageFormat.V4 => .0085f,
        PageFormat.Q4 => .0075f,
        PageFormat.T3 or PageFormat.V3 => .0345f,
        PageFormat.T2 or PageFormat.V2 => .1175f,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };
}
