using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>The body of a loop whose number of turns is known when a kernel is compiled.</summary>
internal interface ITurn
{
    /// <summary>Turn <paramref name="i"/> of the loop.</summary>
    void Take(int i);
}

/// <summary>
/// Turns of a loop as a type: ILGPU unrolls no loops, and where a turn's number is a constant offsets become immediates and the loads of several turns are in flight at once.
/// </summary>
internal interface ITurns
{
    int Count { get; }

    /// <summary>Takes the turns first .. first + Count - 1.</summary>
    void Run<TTurn>(ref TTurn turn, int first)
        where TTurn : struct, ITurn;
}

/// <summary>One turn.</summary>
internal readonly struct Once : ITurns
{
    public int Count => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Run<TTurn>(ref TTurn turn, int first)
        where TTurn : struct, ITurn => turn.Take(first);
}

/// <summary>The turns of one loop, then those of another.</summary>
internal readonly struct Both<TFirst, TSecond> : ITurns
    where TFirst : struct, ITurns
    where TSecond : struct, ITurns
{
    public int Count => default(TFirst).Count + default(TSecond).Count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Run<TTurn>(ref TTurn turn, int first)
        where TTurn : struct, ITurn
    {
        default(TFirst).Run(ref turn, first);
        default(TSecond).Run(ref turn, first + default(TFirst).Count);
    }
}

/// <summary>The turns of one loop, over and over: for many turns, which unrolled would be too much code.</summary>
internal readonly struct Looped<TTurns, TTimes> : ITurns
    where TTurns : struct, ITurns
    where TTimes : struct, INumber
{
    public int Count => default(TTurns).Count * default(TTimes).Value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Run<TTurn>(ref TTurn turn, int first)
        where TTurn : struct, ITurn
    {
        for (int i = 0; i < default(TTimes).Value; i++)
        {
            default(TTurns).Run(ref turn, first + (i * default(TTurns).Count));
        }
    }
}
