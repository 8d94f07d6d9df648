using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>The pages of one sequence that lie in host memory, by row, ascending. Callers are inside of the pool's gate where pages come or go.</summary>
internal sealed class AwayPages(HostRoom room, int rows)
{
    private readonly List<HostPage>?[] _rows = new List<HostPage>?[rows];

    /// <summary>Pages over all rows.</summary>
    public int Count { get; private set; }

    /// <summary>Those of a row.</summary>
    public ReadOnlySpan<HostPage> Of(int row) => CollectionsMarshal.AsSpan(_rows[row]);

    /// <summary>The pages of each row that an attention chose last; null where none had to.</summary>
    public HostPage[]?[] Chosen { get; } = new HostPage[rows][];

    /// <summary>Adds a page for whose bytes the room was asked.</summary>
    public void Add(int row, HostPage page)
    {
        List<HostPage> pages = _rows[row] ??= [];
        int at = pages.Count;
        while (at > 0 && pages[at - 1].Page > page.Page)
        {
            at--;
        }

        pages.Insert(at, page);
        Count++;
    }

    /// <summary>Shares all pages of another sequence, of an empty one.</summary>
    public void ShareWith(AwayPages other)
    {
        for (int row = 0; row < _rows.Length; row++)
        {
            foreach (HostPage page in other.Of(row))
            {
                page.Share();
                Add(row, page);
            }
        }
    }

    /// <summary>Gives back every page from an index on.</summary>
    public void CutTo(int pages)
    {
        foreach (List<HostPage>? row in _rows)
        {
            while (row is [.., { } last] && last.Page >= pages)
            {
                row.RemoveAt(row.Count - 1);
                Count--;
                last.Leave(room);
            }
        }
    }
}
