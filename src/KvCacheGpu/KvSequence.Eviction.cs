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

        int most = Cache.Tier.Shape.TableCapacity;
        using var pages = new Pooled<int>(Table.Rows * most);
        using var starts = new Pooled<int>(Table.Rows + 1);
        int count = 0;
        for (int row = 0; row < Table.Rows; row++)
        {
            starts.Span[row] = count;
            count += Table.DroppablePages(row, pages.Span[count..]);
        }

        starts.Span[Table.Rows] = count;
        using var plan = new Pooled<KvTransition>(count);
        using var drops = new Pooled<bool>(most);
        policy.Plan(new KvPages(Cache.Geometry, Table.Length, starts.Span, pages.Span[..count]), 0, plan.Span, null);
        for (int row = 0; row < Table.Rows; row++)
        {
            ReadOnlySpan<KvTransition> planned = plan.Span[starts.Span[row]..starts.Span[row + 1]];
            for (int entry = 0; entry < planned.Length; entry++)
            {
                drops.Span[entry] = planned[entry].Kind == KvTransitionKind.Drop;
            }

            Drop(row, drops.Span[..planned.Length]);
        }
    }

    private void Drop(int row, ReadOnlySpan<bool> drops)
    {
        if (!drops.Contains(true))
        {
            return;
        }

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
