using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The products of a block's queries with 64 keys of a page.</summary>
internal static class TileLogits
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>
    /// S^T = K Q^T of 16-bit numbers. <paramref name="keys"/> begins at the lane's first word of its first two tokens.
    /// </summary>
    [MethodImpl(Inlined)]
    public static Span64 OfHalves<TKey, TColumns, TShape>(ArrayView<Words2> keys, ArrayView<Words2> queries)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        HalfTurn<TKey, TColumns, TShape> turn = default;
        turn.Keys = keys;
        turn.Queries = queries;
        default(TShape).Keys(ref turn);
        return turn.Sums;
    }

    private struct HalfTurn<TKey, TColumns, TShape> : ITurn
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
        where TShape : struct, ITensorShape
    {
        public ArrayView<Words2> Keys;
        public ArrayView<Words2> Queries;
        public Span64 Sums;

        [MethodImpl(Inlined)]
        public void Take(int i)
        {
            KeyWords k0 = Load<TKey, TShape>(Keys, i, 0);
            KeyWords k1 = Load<TKey, TShape>(Keys, i, 1);
            KeyWords k2 = Load<TKey, TShape>(Keys, i, 2);
            KeyWords k3 = Load<TKey, TShape>(Keys, i, 3);
            int parts = QueryTiles.Parts<TKey, TColumns>();
            Words4 a0 = default(TKey).Operand(k0, 0);
            Words4 a1 = default(TKey).Operand(k1, 0);
            Words4 a2 = default(TKey).Operand(k2, 0);
            Words4 a3 = default(TKey).Operand(k3, 0);
            Part(a0, a1, a2, a3, Queries[i * parts * 32]);
            if (parts > 1)
            {
                Part(a0, a1, a2, a3, Queries[((i * parts) + 1) * 32]);
            }

            if (parts > 2)
            {
                Part(a0, a1, a2, a3, Queries[((i * parts) + 2) * 32]);
            }
        }

        [MethodImpl(Inlined)]
        private void Part(Words4 a0, Words4 a1, Words4 a2, Words4 a3, Words2 q)
        {
            Multiply<TKey>(ref Sums.T0, a0, q);
            Multiply<TKey>(ref Sums.T1, a1, q);
            Multiply<TKey>(ref Sums.T2, a2, q);
            Multiply<TKey>(ref Sums.T3, a3, q);
        }
    }

    [MethodImpl(Inlined)]
    private static void Multiply<TKey>(ref Floats4 s, Words4 a, Words2 q)
        where TKey : struct, IKeyTiles
    {
        if (default(TKey).Arithmetic == TileArithmetic.Halves)
        {
            Lane.MultiplyHalves(ref s, a, q.X, q.Y);
        }
        else
        {
            Lane.MultiplyBFloats(ref s, a, q.X, q.Y);
        }
    }

    [MethodImpl(Inlined)]
    private static KeyWords Load<TKey, TShape>(ArrayView<Words2> keys, int chunk, int tile)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        // Tiles behind a short page read its first one again; its tokens are masked.
        int page = default(TShape).PageTokens;
        int at = ((chunk * default(TKey).ChunkWords * page) + (16 * tile < page ? 16 * tile : 0)) / 2;
        KeyWords words = default;
        words.A = keys[at];
        if (default(TKey).Loads > 1)
        {
            words.B = keys[at + (default(TKey).LoadStride * page / 2)];
        }

        if (default(TKey).Loads > 2)
        {
            words.C = keys[at + (default(TKey).LoadStride * page)];
        }

        return words;
    }
}
