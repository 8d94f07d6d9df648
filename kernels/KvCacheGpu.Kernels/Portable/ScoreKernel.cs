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
        int layerHead = Grid.IdxX % rows;
        int window = batch[dims.Windows + (layerHead / dims.KvHeads)];
        if (window == 0)
        {
            return;
        }

        int length = batch[owner + 3];
        int row = dims.Row(batch[owner], 0, 0) + layerHead;
        int entries = arena[row];
        int tags = dims.Tags + (row * dims.Capacity);
        ArrayView<float> all = SharedMemory.GetDynamic<float>();
        int own = 0;
        for (int entry = Group.IdxX; entry < entries; entry += Group.DimX)
        {
            own += Seen(TableMap.PageIndexOf(arena[tags + entry]), length, window, dims.PageTokens);
        }

        all[Group.IdxX] = own;
        SharedVector.Sum(all, 1);
        for (int entry = Group.IdxX; entry < entries; entry += Group.DimX)
        {
            int page = TableMap.PageIndexOf(arena[tags + entry]);
            float share = Seen(page, length, window, dims.PageTokens) / all[0];
            Update(arena, row, page, share, decay, step, dims);
        }
    }

    /// <summary>Tokens of a page that a sequence's last query sees.</summary>
    private static int Seen(int page, int length, int window, int pageTokens)
    {
        int end = length - (page * pageTokens);
        int first = end > window ? end - window : 0;
        end = end > pageTokens ? pageTokens : end;
        return end > first ? end - first : 0;
    }

    private static void Update(ArrayView<int> arena, int row, int page, float share, float decay, int step, KernelDims dims)
    {
        int stats = dims.Stats + (((row * dims.Capacity) + page) * dims.GroupSize * 2);
        int scores = dims.Scores + (((row * dims.Capacity) + page) * TableMap.ScoreWords);
        float mass = 0f;
        float peak = 0f;
        for (int member = 0; member < dims.GroupSize; member++)
        {
            float lse = Interop.IntAsFloat((uint)arena[dims.LogSumExp + (row * dims.GroupSize) + member]);
            float largest = PortableMath.Exp(Interop.IntAsFloat((uint)arena[stats + (2 * member)]) - lse);
            mass += Interop.IntAsFloat((uint)arena[stats + (2 * member) + 1]) * largest;
            peak = largest > peak ? largest : peak;
        }

        mass /= dims.GroupSize;
        float before = decay * Interop.IntAsFloat((uint)arena[scores + TableMap.ScorePeak]);
        float sum = (decay * Interop.IntAsFloat((uint)arena[scores + TableMap.ScoreMass])) + mass;
        arena[scores + TableMap.ScoreMass] = (int)Interop.FloatAsInt(sum);
        arena[scores + TableMap.ScorePeak] = (int)Interop.FloatAsInt(before > peak ? before : peak);
        arena[scores + TableMap.ScoreLast] = (int)Interop.FloatAsInt(mass);
        if (share > 0f && mass >= share)
        {
            arena[scores + TableMap.ScoreLastUsed] = step;
            arena[scores + TableMap.ScoreUses] = arena[scores + TableMap.ScoreUses] + 1;
        }
    }
}
