using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Brings the scores of the batch's pages up to date. One group per row of the tables.</summary>
internal static class ScoreKernel
{
    /// <summary>Statistics and log-sum-exps of the last queries -> scores. Shared: seen[DimX].</summary>
    public static void Score(ArrayView<int> arena, ArrayView<int> batch, float decay, int step, KernelDims dims)
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

        int length = batch[owner + 3];
        int row = dims.CountWord(batch[owner], layer, head);
        int entries = arena[row];
        ArrayView<float> all = SharedMemory.GetDynamic<float>();
        int own = 0;
        for (int entry = Group.IdxX; entry < entries; entry += Group.DimX)
        {
            own += Seen(PageOf(arena, batch[owner], layer, head, entry, dims), length, window, dims.PageTokens);
        }

        all[Group.IdxX] = own;
        SharedVector.Sum(all, 1);
        for (int entry = Group.IdxX; entry < entries; entry += Group.DimX)
        {
            int page = PageOf(arena, batch[owner], layer, head, entry, dims);
            float share = Seen(page, length, window, dims.PageTokens) / all[0];
            ArrayView<int> leaf = dims.Leaf(arena, batch[owner], page);
            ArrayView<int> lse = arena.SubView(dims.LogSumExp + (row * dims.GroupSize), dims.GroupSize);
            Update(leaf, lse, dims.InLeaf(layer, head, page), share, decay, step, dims);
        }
    }

    /// <summary>The page index of an entry.</summary>
    public static int PageOf(ArrayView<int> arena, int sequence, int layer, int head, int entry, KernelDims dims) =>
        TableMap.PageIndexOf(dims.Leaf(arena, sequence, entry)[dims.LeafTags + dims.InLeaf(layer, head, entry)]);

    /// <summary>Tokens of a page that a sequence's last query sees.</summary>
    public static int Seen(int page, int length, int window, int pageTokens)
    {
        int end = length - (page * pageTokens);
        int first = end > window ? end - window : 0;
        end = end > pageTokens ? pageTokens : end;
        return end > first ? end - first : 0;
    }

    private static void Update(ArrayView<int> leaf, ArrayView<int> logSumExps, int place, float share, float decay, int step, KernelDims dims)
    {
        int stats = dims.LeafStats + (place * dims.GroupSize * 2);
        int scores = dims.LeafScores + (place * TableMap.ScoreWords);
        float mass = 0f;
        float peak = 0f;
        for (int member = 0; member < dims.GroupSize; member++)
        {
            float lse = Interop.IntAsFloat((uint)logSumExps[member]);
            float largest = PortableMath.Exp(Interop.IntAsFloat((uint)leaf[stats + (2 * member)]) - lse);
            mass += Interop.IntAsFloat((uint)leaf[stats + (2 * member) + 1]) * largest;
            peak = largest > peak ? largest : peak;
        }

        mass /= dims.GroupSize;
        float before = decay * Interop.IntAsFloat((uint)leaf[scores + TableMap.ScorePeak]);
        float sum = (decay * Interop.IntAsFloat((uint)leaf[scores + TableMap.ScoreMass])) + mass;
        leaf[scores + TableMap.ScoreMass] = (int)Interop.FloatAsInt(sum);
        leaf[scores + TableMap.ScorePeak] = (int)Interop.FloatAsInt(before > peak ? before : peak);
        leaf[scores + TableMap.ScoreLast] = (int)Interop.FloatAsInt(mass);
        if (share > 0f && mass >= share)
        {
            leaf[scores + TableMap.ScoreLastUsed] = step;
            leaf[scores + TableMap.ScoreUses] = leaf[scores + TableMap.ScoreUses] + 1;
        }
    }
}
