using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="ScoreKernel"/> for CUDA, with the same bits: four tags, two query heads' statistics and four words of scores are loaded at once. One group per row of the tables.
/// </summary>
internal static class WideScore
{
    /// <summary>Threads of a group.</summary>
    public const int Threads = 128;

    /// <summary>Shared integers: the sum of each warp.</summary>
    public const int SharedInts = Threads / 32;

    /// <summary>Statistics and log-sum-exps of the last queries -> scores.</summary>
    public static void Score(WordViews arena, ArrayView<int> batch, float decay, int step, KernelDims dims)
    {
        int rows = dims.Layers * dims.KvHeads;
        int owner = dims.Sequences + (Grid.IdxX / rows * KernelDims.SequenceWords);
        int layer = Grid.IdxX % rows / dims.KvHeads;
        int head = Grid.IdxX % dims.KvHeads;
        int window = batch[dims.Windows + layer];
        if (window == 0)
        {
            return;
        }

        int sequence = batch[owner];
        int length = batch[owner + 3];
        int row = dims.CountWord(sequence, layer, head);
        int entries = arena.One[row];
        int seen = 0;
        for (int entry = 4 * Group.IdxX; entry < entries; entry += 4 * Threads)
        {
            // A leaf's tags are a multiple of four in number, and begin at a multiple of 16 bytes.
            Words4 tags = arena.Four[LeafWord(arena.One, sequence, entry, dims, dims.LeafTags + dims.InLeaf(layer, head, entry)) >> 2];
            seen += SeenOf(tags.X, length, window, dims);
            seen += entry + 1 < entries ? SeenOf(tags.Y, length, window, dims) : 0;
            seen += entry + 2 < entries ? SeenOf(tags.Z, length, window, dims) : 0;
            seen += entry + 3 < entries ? SeenOf(tags.W, length, window, dims) : 0;
        }

        float all = SumOfGroup(seen);
        for (int entry = Group.IdxX; entry < entries; entry += Threads)
        {
            int page = ScoreKernel.PageOf(arena.One, sequence, layer, head, entry, dims);
            float share = ScoreKernel.Seen(page, length, window, dims.PageTokens) / all;
            int place = dims.InLeaf(layer, head, page);
            long leaf = LeafWord(arena.One, sequence, page, dims, 0);
            ArrayView<int> lse = arena.One.SubView(dims.LogSumExp + (row * dims.GroupSize), dims.GroupSize);
            (float mass, float peak) = Attention(arena, leaf + dims.LeafStats + (place * dims.GroupSize * 2), lse, dims.GroupSize);
            Update(arena.Four, (leaf + dims.LeafScores + (place * TableMap.ScoreWords)) >> 2, mass, peak, decay, mass >= share && share > 0f, step);
        }
    }

    private static long LeafWord(ArrayView<int> arena, int sequence, int index, KernelDims dims, int word) =>
        ((long)arena[dims.DirectoryWord(sequence, index)] * PageLayout.UnitWords) + word;

    private static int SeenOf(int tag, int length, int window, KernelDims dims) => ScoreKernel.Seen(TableMap.PageIndexOf(tag), length, window, dims.PageTokens);

    private static int SumOfGroup(int own)
    {
        ArrayView<int> sums = SharedMemory.GetDynamic<int>();
        for (int mask = 1; mask < 32; mask <<= 1)
        {
            own += Warp.ShuffleXor(own, mask);
        }

        if ((Group.IdxX & 31) == 0)
        {
            sums[Group.IdxX >> 5] = own;
        }

        Group.Barrier();
        return sums[0] + sums[1] + sums[2] + sums[3];
    }

    // The mean and the largest of a page's attention over the query heads. Statistics of an even number of heads begin at a multiple of 16 bytes.
    private static (float Mass, float Peak) Attention(WordViews arena, long statistics, ArrayView<int> logSumExps, int heads)
    {
        float mass = 0f;
        float peak = 0f;
        for (int member = 0; member < heads; member += 2)
        {
            Words4 two = default;
            if ((heads & 1) == 0)
            {
                two = arena.Four[(statistics >> 2) + (member >> 1)];
            }
            else
            {
                Words2 one = arena.Two[(statistics >> 1) + member];
                (two.X, two.Y) = (one.X, one.Y);
                if (member + 1 < heads)
                {
                    Words2 next = arena.Two[(statistics >> 1) + member + 1];
                    (two.Z, two.W) = (next.X, next.Y);
                }
            }

            float largest = PortableMath.Exp(Number(two.X) - Number(logSumExps[member]));
            mass += Number(two.Y) * largest;
            peak = largest > peak ? largest : peak;
            if (member + 1 < heads)
            {
                largest = PortableMath.Exp(Number(two.Z) - Number(logSumExps[member + 1]));
                mass += Number(two.W) * largest;
                peak = largest > peak ? largest : peak;
            }
        }

        return (mass / heads, peak);
    }

    // The first four words are mass, peak, last and window; then come the step of the last use and the number of uses, and squares.
    private static void Update(ArrayView<Words4> arena, long scores, float mass, float peak, float decay, bool isUsed, int step)
    {
        Words4 sums = arena[scores];
        float before = decay * Number(sums.Y);
        float sum = (decay * Number(sums.X)) + mass;
        sums.X = (int)Interop.FloatAsInt(sum);
        sums.Y = (int)Interop.FloatAsInt(before > peak ? before : peak);
        sums.Z = (int)Interop.FloatAsInt(mass);
        arena[scores] = sums;
        if (isUsed)
        {
            Words4 uses = arena[scores + 1];
            uses.X = step;
            uses.Y++;
            arena[scores + 1] = uses;
        }
    }

    private static float Number(int bits) => Interop.IntAsFloat((uint)bits);
}
