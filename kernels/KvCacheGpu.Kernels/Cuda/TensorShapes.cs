using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>A whole number that is known when a kernel is compiled, so that loops unroll and offsets become immediates.</summary>
internal interface INumber
{
    int Value { get; }
}

/// <summary>The sizes that a kernel is compiled for.</summary>
internal interface ITensorShape
{
    int KeyWidth { get; }

    int ValueWidth { get; }

    int PageTokens { get; }

    /// <summary>True if logits have a soft cap.</summary>
    bool IsCapped { get; }

    /// <summary>True if a lane has four neighbouring tokens of 32, false if two of 16 (<see cref="TokenOrder"/>).</summary>
    bool IsQuads { get; }

    /// <summary>Takes a turn for each chunk of the keys.</summary>
    void Keys<TTurn>(ref TTurn turn)
        where TTurn : struct, ITurn;

    /// <summary>Takes a turn for each load of the values.</summary>
    void Values<TTurn>(ref TTurn turn)
        where TTurn : struct, ITurn;
}

/// <summary>How many queries one pass over the pages takes.</summary>
internal interface IQueryColumns
{
    /// <summary>8: a column of an mma is a query, its parts follow each other. 4: two columns are two parts of a query.</summary>
    int Count { get; }

    /// <summary>Parts that are entered beside the first one: with 4 queries one less.</summary>
    int Joined { get; }

    /// <summary>Tiles of sums that share a place in shared memory.</summary>
    int TilesOfPlace { get; }
}

internal readonly struct EightQueries : IQueryColumns
{
    public int Count => 8;

    public int Joined => 0;

    public int TilesOfPlace => 1;
}

internal readonly struct QuadQueries : IQueryColumns
{
    public int Count => 4;

    public int Joined => 1;

    public int TilesOfPlace => 2;
}

internal readonly struct TensorShape<TKeyWidth, TValueWidth, TPageTokens, TCap, TOrder, TChunks, TLoads> : ITensorShape
    where TKeyWidth : struct, INumber
    where TValueWidth : struct, INumber
    where TPageTokens : struct, INumber
    where TCap : struct, ILogitCap
    where TOrder : struct, INumber
    where TChunks : struct, ITurns
    where TLoads : struct, ITurns
{
    public int KeyWidth => default(TKeyWidth).Value;

    public int ValueWidth => default(TValueWidth).Value;

    public int PageTokens => default(TPageTokens).Value;

    public bool IsCapped => default(TCap).IsOn;

    public bool IsQuads => default(TOrder).Value == 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Keys<TTurn>(ref TTurn turn)
        where TTurn : struct, ITurn => default(TChunks).Run(ref turn, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Values<TTurn>(ref TTurn turn)
        where TTurn : struct, ITurn => default(TLoads).Run(ref turn, 0);
}

internal readonly struct N0 : INumber
{
    public int Value => 0;
}

internal readonly struct N1 : INumber
{
    public int Value => 1;
}

internal readonly struct N4 : INumber
{
    public int Value => 4;
}

internal readonly struct N2 : INumber
{
    public int Value => 2;
}

internal readonly struct N16 : INumber
{
    public int Value => 16;
}

internal readonly struct N32 : INumber
{
    public int Value => 32;
}

internal readonly struct N64 : INumber
{
    public int Value => 64;
}

internal readonly struct N80 : INumber
{
    public int Value => 80;
}

internal readonly struct N96 : INumber
{
    public int Value => 96;
}

internal readonly struct N128 : INumber
{
    public int Value => 128;
}

internal readonly struct N256 : INumber
{
    public int Value => 256;
}

internal readonly struct N512 : INumber
{
    public int Value => 512;
}

internal readonly struct N576 : INumber
{
    public int Value => 576;
}
