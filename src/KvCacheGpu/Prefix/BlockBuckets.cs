namespace KvCacheGpu;

/// <summary>Finds blocks by their hash or by their parent's, in chains in native memory. Several blocks may have the same hash; the oldest comes first.</summary>
internal sealed unsafe class BlockBuckets(int* heads, int buckets, IndexedBlock* blocks, bool byParent)
{
    /// <summary>The number of buckets for a number of blocks: a power of two.</summary>
    public static int CountFor(int blocks) => (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)blocks);

    /// <summary>The oldest block with a hash, or 0.</summary>
    public int First(in BlockHash key) => Seek(Head(key), key);

    /// <summary>The next block with the same hash as this one, or 0.</summary>
    public int After(int block) => Seek(Next(block), Key(block));

    public void Add(int block)
    {
        ref int link = ref Head(Key(block));
        while (link != 0)
        {
            link = ref Next(link);
        }

        link = block;
        Next(block) = 0;
    }

    public void Remove(int block)
    {
        ref int link = ref Head(Key(block));
        while (link != block)
        {
            link = ref Next(link);
        }

        link = Next(block);
    }

    private int Seek(int block, in BlockHash key)
    {
        while (block != 0 && Key(block) != key)
        {
            block = Next(block);
        }

        return block;
    }

    private ref int Head(in BlockHash key) => ref heads[key.GetHashCode() & (buckets - 1)];

    private ref int Next(int block) => ref byParent ? ref blocks[block].NextByParent : ref blocks[block].NextByHash;

    private ref BlockHash Key(int block) => ref byParent ? ref blocks[block].Parent : ref blocks[block].Hash;
}
