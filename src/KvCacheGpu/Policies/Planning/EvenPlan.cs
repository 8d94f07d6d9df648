namespace KvCacheGpu;

/// <summary>
/// The plan that scorers share. Groups of rows give pages one by one: the group with most pages gives first, and of its pages the one of the lowest
/// score. So all groups keep the same number of pages, give or take one, while they have pages to give.
/// </summary>
internal static class EvenPlan
{
    // Level 0 keeps the floors; if they leave too little to free, level 1 does not.
    private const int Levels = 2;

    /// <param name="pages">The pages.</param>
    /// <param name="scores">One per page, comparable within a group; the pages of the highest scores are kept.</param>
    /// <param name="rowsPerGroup">Rows whose pages compete with each other; divides the number of rows.</param>
    /// <param name="floors">The pages that rows and segments keep.</param>
    /// <param name="bytesToFree">Bytes to free, beyond those of pages that the plan drops already.</param>
    /// <param name="plan">Receives the plan. Pages that it drops already stay dropped.</param>
    public static void Fill(
        in KvPages pages, ReadOnlySpan<float> scores, int rowsPerGroup, in Floors floors, long bytesToFree, Span<KvTransition> plan)
    {
        int groups = pages.Rows / rowsPerGroup;
        using var orders = new Pooled<ulong>(pages.Count);
        using var room = new Pooled<ulong>(pages.Count);
        using var rowOf = new Pooled<int>(pages.Count);
        using var ends = new Pooled<int>(groups);
        using var left = new Pooled<int>(groups);
        for (int group = 0; group < groups; group++)
        {
            int start = pages.RowStarts[group * rowsPerGroup];
            int end = start;
            int listed = 0;
            for (int row = group * rowsPerGroup; row < (group + 1) * rowsPerGroup; row++)
            {
                for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
                {
                    listed += plan[page].Kind == KvTransitionKind.Drop ? 0 : 1;
                    rowOf.Span[page] = row;
                    if (pages.IsVictim(page) && plan[page].Kind == KvTransitionKind.Keep)
                    {
                        orders.Span[end++] = Order.Key(scores[page], page);
                    }
                }
            }

            Order.Sort(orders.Span[start..end], room.Span);
            (ends.Span[group], left.Span[group]) = (end, listed);
        }

        using var keys = new Pooled<double>(groups);
        using var ties = new Pooled<long>(groups);
        using var cursors = new Pooled<int>(groups);
        for (int level = 0; level < Levels && bytesToFree > 0; level++)
        {
            var heap = new MinHeap(keys.Span, ties.Span);
            for (int group = 0; group < groups; group++)
            {
                cursors.Span[group] = pages.RowStarts[group * rowsPerGroup];
                heap.Push(-left.Span[group], group);
            }

            while (bytesToFree > 0 && heap.Count > 0)
            {
                int group = (int)heap.Tie;
                if (Next(orders.Span, ref cursors.Span[group], ends.Span[group], rowOf.Span, floors, level, plan) is not (>= 0 and int page))
                {
                    heap.Pop();
                    continue;
                }

                plan[page] = KvTransition.Drop;
                bytesToFree -= pages.Bytes[page];
                floors.Drop(rowOf.Span[page], page);
                heap.Replace(-(--left.Span[group]), group);
            }
        }
    }

    // A page that may not go now may not go later at this level, since the counts only fall. So a cursor never turns back.
    private static int Next(
        ReadOnlySpan<ulong> order, ref int cursor, int end, ReadOnlySpan<int> rowOf, in Floors floors, int level, ReadOnlySpan<KvTransition> plan)
    {
        while (cursor < end)
        {
            int page = Order.Page(order[cursor++]);
            if (plan[page].Kind == KvTransitionKind.Keep && (level > 0 || floors.Allows(rowOf[page], page)))
            {
                return page;
            }
        }

        return -1;
    }
}
