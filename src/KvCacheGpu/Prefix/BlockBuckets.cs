namespace KvCacheGpu;

/// <summary>Rows by a hash of theirs, in native chains; several rows may have the same, the oldest comes first.</summary>
internal sealed unsafe class RowBuckets(int* heads, int buckets, BlockRow* rows, bool byParent)
{
    /// <summary>Buckets that serve a number of rows: a power of two.</summary>
    public static int CountFor(int rows) => (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)rows);

    /// <summary>The oldest row with a hash, or 0.</summary>
    public int First(in BlockHash key) => Seek(Head(key), key);

    /// <summary>The next row with the hash of this one, or 0.</summary>
    public int After(int row) => Seek(Next(row), Key(row));

    public void Add(int row)
    {
        ref int link = ref Head(Key(row));
        while (link != 0)
        {
            link = ref Next(link);
        }

        link = row;
        Next(row) = 0;
    }

    public void Remove(int row)
    {
        ref int link = ref Head(Key(row));
        while (link != row)
        {
            link = ref Next(link);
        }

        link = Next(row);
    }

    private int Seek(int row, in BlockHash key)
    {
        while (row != 0 && Key(row) != key)
        {
            row = Next(row);
        }

        return row;
    }

    private ref int Head(in BlockHash key) => ref heads[key.GetHashCode() & (buckets - 1)];

    private ref int Next(int row) => ref byParent ? ref rows[row].NextByParent : ref rows[row].NextByHash;

    private ref BlockHash Key(int row) => ref byParent ? ref rows[row].Parent : ref rows[row].Hash;
}
