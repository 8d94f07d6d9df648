using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>One part of a launch's moves. Passed by value.</summary>
/// <param name="pair">Class pair of the moves meant.</param>
/// <param name="lanes">Lanes that share a vector: a power of two, sixteen elements each.</param>
/// <param name="from">Source.</param>
/// <param name="to">Target.</param>
/// <param name="norm"><see cref="Rotation.Norm"/>.</param>
/// <param name="square">Word of a page's scores that its mean square norm goes to; -1 if a move takes several groups, none of which has all of it.</param>
internal readonly struct MoveDims(int pair, int lanes, PartDims from, PartDims to, float norm, int square)
{
    public readonly int Pair = pair;
    public readonly int Lanes = lanes;
    public readonly PartDims From = from;
    public readonly PartDims To = to;
    public readonly float Norm = norm;
    public readonly int Square = square;

    /// <summary>Tokens of a quad. A parameter, because ILGPU would unroll a loop over a constant, and take a minute for what it then has.</summary>
    public readonly int QuadTokens = 4;

    /// <summary>Elements of a vector in shared memory: a place for each of its lanes' sixteen, and as many more that the vectors of a warp lie in different banks.</summary>
    public int Stride => (16 * Lanes) + (Lanes >> 2);

    /// <summary>Shared floats of <see cref="MoveKernels.Keys"/>: the page's vectors, mean and deviation, the rms of each token, and <see cref="PageSquare.SharedFloats"/>.</summary>
    public int SharedFloats => (From.PageTokens * Stride) + (32 * Lanes) + From.PageTokens + PageSquare.SharedFloats;
}

/// <summary>Four neighbouring tokens of a page, as one lane of their vectors sees them.</summary>
internal readonly struct Quad
{
    /// <summary>Which quad of the page is read; the last one where <see cref="Count"/> says that there is none.</summary>
    public readonly int Source;

    /// <summary>Tokens that the page has from the quad on; 0 or less if none.</summary>
    public readonly int Count;

    /// <summary>The lane among those of a vector.</summary>
    public readonly int Own;

    /// <summary>True if the lane has elements.</summary>
    public readonly bool IsActive;

    /// <summary>The lane whose elements are read: its own, or the first.</summary>
    public readonly int Lane;

    private readonly int _active;

    public Quad(int tokens, int quad, int lane, MoveDims dims)
    {
        int last = (dims.From.PageTokens >> 2) - 1;
        Source = quad < last ? quad : last;
        Count = tokens - (4 * quad);
        Own = lane;
        _active = dims.From.Width >> 4;
        IsActive = lane < _active;
        Lane = IsActive ? lane : 0;
    }

    /// <summary>True if the page has the quad's token <paramref name="k"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool IsTaken(int k) => k < Count;

    /// <summary>All bits where there is such a token and the lane has elements of it, else none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Mask(int k) => IsActive && k < Count ? -1 : 0;

    /// <summary>True if the lane has words to store. The lane beside the last one has, where third bits of both share words.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Stores<TTarget>()
        where TTarget : struct, IMoveTarget => Own < (default(TTarget).HasThirds ? (_active + 1) & ~1 : _active);
}

/// <summary>The scales of a quad of an I8 page.</summary>
internal readonly struct QuadScales(int low, int high)
{
    private readonly int _low = low;
    private readonly int _high = high;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Of(int k, int mask)
    {
        int word = (k < 2 ? _low : _high) & mask;
        return (k & 1) == 0 ? Lane.LowHalf(word) : Lane.HighHalf(word);
    }
}
