using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>The rows' part in prefix reuse: pages as blocks over all rows. The gate is held.</content>
internal sealed unsafe partial class PageTable
{
    /// <summary>Reads the slots of a page over all rows.</summary>
    /// <returns>False where a row has dropped it, or does not hold it in the formats that its layer seals in.</returns>
    public bool TrySlotsOf(int page, Span<int> slots)
    {
        for (int row = 0; row < Rows; row++)
        {
            int entry = EntryOf(row, page);
            if (entry < 0 || PageClass(row, entry) != SealedIn(row) || IsMerged(row, entry))
            {
                return false;
            }

            slots[row] = Slot(row, entry);
        }

        return true;
    }

    /// <summary>Lists a sealed page of another sequence, which follows the last page, in every row.</summary>
    /// <param name="slots">Its slot in each row.</param>
    /// <param name="tokens">Tokens of it that become the sequence's.</param>
    public void Adopt(ReadOnlySpan<int> slots, int tokens)
    {
        int page = Length / _pageTokens;
        for (int row = 0; row < Rows; row++)
        {
            int entry = Count(row);
            _pool.AddReference(slots[row]);
            Set(row, entry, slots[row], TableMap.Tag(SealedIn(row), page));
            SetCount(row, entry + 1);
        }

        Length += tokens;
        _firstOpen = page + 1;
    }
}
