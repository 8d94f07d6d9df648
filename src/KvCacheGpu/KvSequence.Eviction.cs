using System.Buffers;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What a policy does to a sequence after a step.</content>
public sealed partial class KvSequence
{
    /// <summary>Asks the policy about every row and drops what it says.</summary>
    internal void Evict()
    {
        if (Cache.Settings.Policy is not { } policy)
        {
            return;
        }

        KvGeometry geometry = Cache.Geometry;
        int most = Cache.Tier.Shape.TableCapacity;
        int[] pages = ArrayPool<int>.Shared.Rent(most);
        bool[] drops = ArrayPool<bool>.Shared.Rent(most);
        try
        {
            for (int row = 0; row < Table.Rows; row++)
            {
                int count = Table.DroppablePages(row, pages);
                drops.AsSpan(0, count).Clear();
                var seen = new KvRow(
                    row / geometry.KvHeads, row % geometry.KvHeads, Table.Length, geometry.PageTokens, pages.AsSpan(0, count));
                policy.Plan(seen, drops.AsSpan(0, count));
                Drop(row, drops.AsSpan(0, count));
            }
        }
        finally
        {
            ArrayPool<int>.Shared.Return(pages);
            ArrayPool<bool>.Shared.Return(drops);
        }
    }

    private void Drop(int row, ReadOnlySpan<bool> drops)
    {
        if (!drops.Contains(true))
        {
            return;
        }

        _massMap?.Drop(row, Table.Count(row), drops);
        lock (Cache.Pool.Gate)
        {
            // Blocks first: a row that is held answers for all its pages.
            for (int entry = drops.Length - 1; entry >= 0 && _chain is not null; entry--)
            {
                if (drops[entry])
                {
                    _chain.Drop(Table.PageIndex(row, entry));
                }
            }

            Table.Drop(row, drops);
        }
    }
}
