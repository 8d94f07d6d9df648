using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Four words of each of four tokens.</summary>
internal struct LaneBlock
{
    public Words4 A;
    public Words4 B;
    public Words4 C;
    public Words4 D;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LaneBlock Of(Words4 a, Words4 b, Words4 c, Words4 d)
    {
        LaneBlock result = default;
        result.A = a;
        result.B = b;
        result.C = c;
        result.D = d;
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LaneBlock Transposed(LaneBlock x) => Of(
        LaneWords.Words(x.A.X, x.B.X, x.C.X, x.D.X),
        LaneWords.Words(x.A.Y, x.B.Y, x.C.Y, x.D.Y),
        LaneWords.Words(x.A.Z, x.B.Z, x.C.Z, x.D.Z),
        LaneWords.Words(x.A.W, x.B.W, x.C.W, x.D.W));
}

/// <summary>A lane's words of a quad, by token: they move on by one token at a time, so that a loop over tokens names the same registers each time.</summary>
internal struct QuadWords
{
    public LaneWords First;
    public LaneWords Second;
    public LaneWords Third;
    public LaneWords Fourth;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuadWords OfRows(LaneWords a, LaneWords b, LaneWords c, LaneWords d)
    {
        QuadWords result = default;
        result.First = a;
        result.Second = b;
        result.Third = c;
        result.Fourth = d;
        return result;
    }

    /// <summary>From words of four tokens each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuadWords OfColumns(LaneBlock low, LaneBlock high)
    {
        (LaneBlock a, LaneBlock b) = (LaneBlock.Transposed(low), LaneBlock.Transposed(high));
        return OfRows(LaneWords.Of(a.A, b.A), LaneWords.Of(a.B, b.B), LaneWords.Of(a.C, b.C), LaneWords.Of(a.D, b.D));
    }

    /// <summary>The second token first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuadWords Next(QuadWords x) => OfRows(x.Second, x.Third, x.Fourth, x.First);
}

/// <summary>The codes and scales of a token, as far as they are one lane's.</summary>
internal struct LaneCodes
{
    public Words4 Words;
    public uint First;
    public uint Second;

    /// <summary>0 if the format holds the vector.</summary>
    public int IsKept;
}

/// <summary>The codes and scales of a quad, as far as they are one lane's: a word of all four tokens in each.</summary>
internal struct QuadCodes
{
    public LaneBlock Words;
    public Words4 First;
    public Words4 Second;

    /// <summary>One token more: after four of them the first is the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QuadCodes Push(QuadCodes codes, LaneCodes token)
    {
        QuadCodes result = default;
        result.Words = LaneBlock.Of(
            Push(codes.Words.A, token.Words.X), Push(codes.Words.B, token.Words.Y), Push(codes.Words.C, token.Words.Z), Push(codes.Words.D, token.Words.W));
        result.First = Push(codes.First, (int)token.First);
        result.Second = Push(codes.Second, (int)token.Second);
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Words4 Push(Words4 words, int word) => LaneWords.Words(words.Y, words.Z, words.W, word);
}
