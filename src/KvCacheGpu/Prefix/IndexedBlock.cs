namespace KvCacheGpu;

/// <summary>One row of the <see cref="BlockIndex"/>: P tokens over all layers and heads. Row 0 is the null row, the end of every list.</summary>
internal struct BlockRow
{
    /// <summary>Null until published.</summary>
    public BlockHash Hash;

    /// <summary>Hash of the block before, or of the namespace.</summary>
    public BlockHash Parent;

    /// <summary>When a free row's priority returns to the default, in ms of the index's clock; 0 never.</summary>
    public long Expires;

    /// <summary>Holders: sequences and pins. 0 exactly when the row is in the free list.</summary>
    public int References;

    /// <summary>References that are pins.</summary>
    public int Pins;

    /// <summary>Tokens that the hash covers, P or fewer; 0 without a hash.</summary>
    public int Tokens;

    /// <summary>Which of the free lists the row is in.</summary>
    public int List;

    /// <summary>Row before in the free list.</summary>
    public int Previous;

    /// <summary>Row after in the free list.</summary>
    public int Next;

    /// <summary>Next row in the bucket of its hash.</summary>
    public int NextByHash;

    /// <summary>Next row in the bucket of its parent.</summary>
    public int NextByParent;

    /// <summary>0..100; what is lower goes first.</summary>
    public int Priority;

    /// <summary>How long the priority outlasts the last holder, in ms; 0 for ever.</summary>
    public int Milliseconds;
}
