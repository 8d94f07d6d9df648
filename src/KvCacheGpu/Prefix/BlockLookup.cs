namespace KvCacheGpu;

/// <summary>The longest stored prefix that a look-up found.</summary>
/// <param name="Blocks">Number of blocks written: whole blocks, then one that was hit in part, if any.</param>
/// <param name="Tokens">Number of tokens that they cover.</param>
/// <param name="PartialTokens">Number of tokens of the last block that were hit, fewer than it holds or than a page; 0 if only whole blocks were hit.</param>
internal readonly record struct BlockMatch(int Blocks, int Tokens, int PartialTokens)
{
    /// <summary>Number of blocks that were hit as a whole.</summary>
    public int WholeBlocks => PartialTokens > 0 ? Blocks - 1 : Blocks;
}

/// <summary>The published blocks of a <see cref="BlockIndex"/>, by their hash and by their parent's, with the token ids that they cover.</summary>
internal sealed unsafe class BlockLookup
{
    private readonly IndexedBlock* _blocks;
    private readonly int* _tokens;
    private readonly int _pageTokens;
    private readonly BlockBuckets _byHash;
    private readonly BlockBuckets _byParent;

    /// <summary>Makes a look-up without published blocks.</summary>
    /// <param name="blocks">The index's blocks.</param>
    /// <param name="count">Number of blocks, the null block counted.</param>
    /// <param name="pageTokens">Tokens of a whole block.</param>
    /// <param name="memory">Zeroed memory, <see cref="Bytes"/> bytes, which the caller frees.</param>
    public BlockLookup(IndexedBlock* blocks, int count, int pageTokens, int* memory)
    {
        _blocks = blocks;
        _tokens = memory;
        _pageTokens = pageTokens;
        int buckets = BlockBuckets.CountFor(count);
        int* heads = _tokens + ((long)count * pageTokens);
        _byHash = new BlockBuckets(heads, buckets, blocks, byParent: false);
        _byParent = new BlockBuckets(heads + buckets, buckets, blocks, byParent: true);
    }

    /// <summary>Bytes of native memory for a number of blocks: token ids and hash buckets.</summary>
    public static long Bytes(int count, int pageTokens) => (((long)count * pageTokens) + (2L * BlockBuckets.CountFor(count))) * sizeof(int);

    /// <summary>The oldest block with a hash, or 0.</summary>
    public int Find(in BlockHash hash) => _byHash.First(hash);

    /// <summary>The token ids that a block's hash covers.</summary>
    public ReadOnlySpan<int> TokensOf(int block) => new(_tokens + ((long)block * _pageTokens), _blocks[block].Tokens);

    /// <inheritdoc cref="BlockIndex.Match"/>
    public BlockMatch Match(in BlockHash root, ReadOnlySpan<int> ids, Span<int> blocks, bool partial)
    {
        BlockHash parent = root;
        int whole = 0;
        while (ids.Length - (whole * _pageTokens) >= _pageTokens)
        {
            BlockHash hash = BlockHash.Next(parent, ids.Slice(whole * _pageTokens, _pageTokens));
            int block = _byHash.First(hash);
            if (block == 0)
            {
                break;
            }

            blocks[whole++] = block;
            parent = hash;
        }

        int most = 0;
        ReadOnlySpan<int> rest = ids[(whole * _pageTokens)..];
        for (int block = partial && !rest.IsEmpty ? _byParent.First(parent) : 0; block != 0; block = _byParent.After(block))
        {
            int common = rest.CommonPrefixLength(TokensOf(block));
            if (common > most)
            {
                (most, blocks[whole]) = (common, block);
            }
        }

        return new BlockMatch(most > 0 ? whole + 1 : whole, (whole * _pageTokens) + most, most);
    }

    /// <summary>Gives a block its hash, so that it can be found.</summary>
    /// <param name="block">A block without a hash.</param>
    /// <param name="parent">Hash of the block before it, or of the namespace.</param>
    /// <param name="hash">The block's hash.</param>
    /// <param name="ids">The token ids that the hash covers, at most a page.</param>
    public void Add(int block, in BlockHash parent, in BlockHash hash, ReadOnlySpan<int> ids)
    {
        (_blocks[block].Hash, _blocks[block].Parent, _blocks[block].Tokens) = (hash, parent, ids.Length);
        ids.CopyTo(new Span<int>(_tokens + ((long)block * _pageTokens), _pageTokens));
        _byHash.Add(block);
        _byParent.Add(block);
    }

    /// <summary>Takes the hash of a block, so that it can no longer be found.</summary>
    public void Remove(int block)
    {
        _byHash.Remove(block);
        _byParent.Remove(block);
        (_blocks[block].Hash, _blocks[block].Parent, _blocks[block].Tokens) = (default, default, 0);
    }
}
