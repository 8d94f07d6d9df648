using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Codes and scales of a quad -> their words in a page. Tokens beyond the last one are not written.</summary>
internal static class QuadStores
{
    // Codes of a quad of values: a token's words are neighbours.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Value<TTarget>(ArrayView<int> page, ArrayView<Words4> page128, PartDims part, Quad quad, int k, Words4 words)
        where TTarget : struct, IMoveTarget
    {
        int thirds = default(TTarget).HasThirds ? Thirds(words.Y, quad.Own) : 0;
        if (!quad.IsTaken(k) || !quad.Stores<TTarget>())
        {
            return;
        }

        int row = part.First + (((4 * quad.Source) + k) * part.Words);
        if (default(TTarget).HasThirds)
        {
            int chunk = row + (3 * (quad.Own >> 1));
            page[chunk + (quad.Own & 1)] = words.X;
            if ((quad.Own & 1) == 0)
            {
                page[chunk + 2] = thirds;
            }
        }
        else if (default(TTarget).Words == 4)
        {
            page128[(row >> 2) + quad.Own] = words;
        }
        else
        {
            page[row + (quad.Own * default(TTarget).Words)] = words.X;
            if (default(TTarget).Words == 2)
            {
                page[row + (quad.Own * 2) + 1] = words.Y;
            }
        }
    }

    // Codes of a quad of keys: a word of four tokens is one store.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Keys<TTarget>(ArrayView<int> page, ArrayView<Words4> page128, PartDims part, Quad quad, QuadCodes codes)
        where TTarget : struct, IMoveTarget
    {
        var column = new Column(page, page128, part, quad);
        LaneBlock words = codes.Words;
        if (default(TTarget).HasThirds)
        {
            Words4 thirds = LaneWords.Words(
                Thirds(words.B.X, quad.Own), Thirds(words.B.Y, quad.Own), Thirds(words.B.Z, quad.Own), Thirds(words.B.W, quad.Own));
            if (quad.Stores<TTarget>())
            {
                int chunk = 3 * (quad.Own >> 1);
                column.Store(chunk + (quad.Own & 1), words.A);
                if ((quad.Own & 1) == 0)
                {
                    column.Store(chunk + 2, thirds);
                }
            }
        }
        else if (quad.Stores<TTarget>())
        {
            int first = quad.Own * default(TTarget).Words;
            column.Store(first, words.A);
            if (default(TTarget).Words > 1)
            {
                column.Store(first + 1, words.B);
            }

            if (default(TTarget).Words > 2)
            {
                column.Store(first + 2, words.C);
                column.Store(first + 3, words.D);
            }
        }
    }

    // The third bits of 32 elements, from the two lanes that have them.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Thirds(int bits, int lane)
    {
        int own = bits << (2 * (lane & 1));
        return own | Warp.ShuffleXor(own, 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Scales<TTarget>(ArrayView<int> page, PartDims part, Quad quad, QuadCodes codes)
        where TTarget : struct, IMoveTarget
    {
        if (default(TTarget).Scales == Scaling.None)
        {
            return;
        }

        // The first lane of a group of V4 writes its two planes, of other formats the first lane of the vector.
        int lanes = part.ScaleGroup >> 4;
        int own = default(TTarget).Scales == Scaling.Group ? quad.Own % lanes : quad.Own;
        int plane = default(TTarget).Scales == Scaling.Group ? quad.Own / lanes * 2 : 0;
        if (own != 0 || !quad.IsActive || quad.Count <= 0)
        {
            return;
        }

        int at = part.Scales + (plane * part.PlaneWords) + (2 * quad.Source);
        StorePlane(page, at, quad, codes.First);
        if (default(TTarget).Scales is Scaling.Group or Scaling.Gain)
        {
            StorePlane(page, at + part.PlaneWords, quad, codes.Second);
        }
    }

    // Two tokens share a word; that of the last token has zeros beside it where the tokens are odd in number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePlane(ArrayView<int> page, int at, Quad quad, Words4 scales)
    {
        page[at] = scales.X | (quad.Count > 1 ? scales.Y << 16 : 0);
        if (quad.Count > 2)
        {
            page[at + 1] = scales.Z | (quad.Count > 3 ? scales.W << 16 : 0);
        }
    }

    /// <summary>Where a quad of keys is written.</summary>
    private readonly struct Column(ArrayView<int> page, ArrayView<Words4> page128, PartDims part, Quad quad)
    {
        private readonly ArrayView<int> _page = page;
        private readonly ArrayView<Words4> _page128 = page128;
        private readonly int _first = part.First + (4 * quad.Source);
        private readonly int _stride = part.WordStride;
        private readonly int _count = quad.Count;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Store(int word, Words4 tokens)
        {
            int at = _first + (word * _stride);
            if (_count >= 4)
            {
                _page128[at >> 2] = tokens;
                return;
            }

            if (_count > 0)
            {
                _page[at] = tokens.X;
            }

            if (_count > 1)
            {
                _page[at + 1] = tokens.Y;
            }

            if (_count > 2)
            {
                _page[at + 2] = tokens.Z;
            }
        }
    }
}
