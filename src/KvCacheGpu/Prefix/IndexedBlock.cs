namespace KvCacheGpu;

/// <summary>One block of the <see cref="BlockIndex"/>: P tokens over all layers and heads. Block 0 is the null block, the end of every list.</summary>
internal struct IndexedBlock
{
    /// <summary>Null until the block is published.</summary>
    public BlockHash Hash;

    /// <summary>Hash of the block before this one, or of the namespace.</summary>
    public BlockHash Parent;

    /// <summary>The time at which a free block's priority returns to the default, in milliseconds of the index's clock; 0 for never.</summary>
    public long Expires;

    /// <summary>Number of holders: sequences and pins. It is 0 exactly when the block is in the free list.</summary>
    public int References;

    /// <summary>Number of references that are pins.</summary>
    public int Pins;

    /// <summary>Number of tokens that the hash covers, at most P; 0 without a hash.</summary>
    public int Tokens;

    /// <summary>The free list that the block is in.</summary>
    public int List;

    /// <summary>The block before this one in the free list.</summary>
    public int Previous;

    /// <summary>The block after this one in the free list.</summary>
    public int Next;

    /// <summary>The next block in the bucket of its hash.</summary>
    public int NextByHash;

    /// <summary>The next block in the bucket of its parent.</summary>
    public int NextByParent;

    /// <summary>0..100; blocks of a lower priority are evicted first.</summary>
    public int Priority;

    /// <summary>How long the priority lasts after the last holder let go, in milliseconds; 0 for ever.</summary>
    public int Milliseconds;
}
