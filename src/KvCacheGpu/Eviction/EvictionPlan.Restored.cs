using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What of a snapshot does not come in.</content>
internal sealed partial class EvictionPlan
{
    /// <summary>Plans what to leave out of a sequence that is being restored: its tables hold scores, and no pages yet.</summary>
    /// <param name="sequence">The sequence, held, of its length.</param>
    /// <param name="planned">Its pages.</param>
    /// <param name="bytes">Bytes that leaving an entry out frees.</param>
    /// <param name="bytesToFree">Bytes to free.</param>
    /// <returns>By entry, whether it goes.</returns>
    public bool[] PlanRestored(KvSequence sequence, PlannedSequence planned, int[] bytes, long bytesToFree)
    {
        bool[] drops = new bool[planned.Pages.Length];
        int[] entries = Droppable(sequence, planned);
        lock (Memory.Gate)
        {
            _rungs.Clear();
            Memory.Count = entries.Length;
            int row = 0;
            for (int page = 0; page < entries.Length; page++)
            {
                int entry = entries[page];
                for (; planned.RowStarts[row] <= entry; row++)
                {
                    Memory.RowStarts[row] = page;
                }

                Memory.Index[page] = planned.PageIndexes[entry];
                Memory.Bytes[page] = bytes[entry];
                Memory.Class[page] = KernelShape.Open;
                Memory.Fixed[page] = IsFixedSpan(sequence, planned.PageIndexes[entry], planned.PageIndexes[entry]);
            }

            Memory.RowStarts[row..(sequence.Table.Rows + 1)].Fill(entries.Length);
            ReadScores(sequence);
            Memory.Plan.Clear();
            _policy.Plan(PagesOf(sequence, _cache.NextStep), bytesToFree, Memory.Plan, sequence.Scores?.State);
            for (int page = 0; page < entries.Length; page++)
            {
                drops[entries[page]] = !Memory.Fixed[page] && Memory.Plan[page].Kind == KvTransitionKind.Drop;
            }
        }

        return drops;
    }

    // As PageTable.DroppablePages: sealed, and followed by a whole page.
    private int[] Droppable(KvSequence sequence, PlannedSequence planned)
    {
        int end = Math.Min(planned.FirstOpen, (sequence.Table.Length / _cache.Geometry.PageTokens) - 1);
        return [.. Enumerable.Range(0, planned.Pages.Length).Where(entry => planned.PageIndexes[entry] < end)];
    }
}
