using System.Runtime.CompilerServices;

namespace KvCacheGpu;

/// <summary>
/// Knows which blocks of tokens exist, who holds them, and which can be hit. It has numbers of blocks, not their bytes. Callers hold a gate
/// around every call.
/// </summary>
/// <remarks>
/// A block is held (references above 0) or in the free list, never both. A freed block keeps its hash and can be revived until it is taken
/// for something else, in the order of the free list: blocks without a hash first, then the least recently used, a sequence's deepest
/// block before those that it builds on. A hashed block is immutable. A call that fails changes nothing.
/// </remarks>
internal sealed unsafe class BlockIndex : IDisposable
{
    /// <summary>The priority of blocks that were given none.</summary>
    public const int DefaultPriority = 35;

    /// <summary>The highest priority; the lowest is 0.</summary>
    public const int HighestPriority = 100;

    private readonly NativeInts _memory;
    private readonly IndexedBlock* _blocks;
    private readonly BlockLookup _published;
    private readonly FreeBlocks _free;
    private readonly BlockRetention _retention;
    private readonly List<PrefixEvent>? _events;
    private readonly bool _sharing;
    private readonly Action<int>? _evicted;

    /// <summary>Makes an index of free blocks.</summary>
    /// <param name="count">Number of blocks, block 0 counted, which is never taken.</param>
    /// <param name="pageTokens">Tokens of a whole block.</param>
    /// <param name="ledger">Is told of the memory.</param>
    /// <param name="sharing">False to publish nothing, so that nothing is hit.</param>
    /// <param name="events">True to keep events until <see cref="TakeEvents"/>.</param>
    /// <param name="time">The clock by which priorities decay.</param>
    /// <param name="evicted">Is called with each block that has lost its hash.</param>
    public BlockIndex(
        int count, int pageTokens, MemoryLedger ledger, bool sharing = true, bool events = false, TimeProvider? time = null, Action<int>? evicted = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(pageTokens, 1);
        (Count, PageTokens, _sharing, _evicted) = (count, pageTokens, sharing, evicted);
        _events = events ? [] : null;
        _memory = new NativeInts(BookkeepingBytes(count, pageTokens) / sizeof(int), ledger);
        _blocks = (IndexedBlock*)_memory.Pointer;
        _published = new BlockLookup(_blocks, count, pageTokens, (int*)(_blocks + count));
        _free = new FreeBlocks(_blocks);
        _retention = new BlockRetention(_blocks, count, _free, time ?? TimeProvider.System);
        for (int block = 1; block < count; block++)
        {
            _blocks[block].Priority = DefaultPriority;
            _free.PushBack(block, FreeBlocks.Unhashed);
        }
    }

    /// <summary>Number of blocks, the null block counted.</summary>
    public int Count { get; }

    /// <summary>Tokens of a whole block.</summary>
    public int PageTokens { get; }

    /// <summary>The state of a block, which the next call may change.</summary>
    public ref readonly IndexedBlock this[int block] => ref _blocks[block];

    /// <summary>Is called with each block that can be hit from now on.</summary>
    public Action<int>? Published { get; set; }

    /// <summary>Is called with each block that can be hit and that nobody holds any longer.</summary>
    public Action<int>? Released { get; set; }

    /// <summary>Bytes of native memory for a number of blocks.</summary>
    public static long BookkeepingBytes(int count, int pageTokens) => ((long)count * Unsafe.SizeOf<IndexedBlock>()) + BlockLookup.Bytes(count, pageTokens);

    /// <summary>Finds the longest stored prefix of token ids. Changes nothing.</summary>
    /// <param name="root">Hash of the namespace.</param>
    /// <param name="ids">Token ids.</param>
    /// <param name="blocks">Receives the blocks, the first of the sequence first: room for one per page that the ids touch.</param>
    /// <param name="partial">
    /// True if a block may be hit in part: after the whole blocks, the stored block that shares the most first tokens with the rest of the
    /// ids, whole or itself a part of a page. Its holder copies it before writing on.
    /// </param>
    public BlockMatch Match(in BlockHash root, ReadOnlySpan<int> ids, Span<int> blocks, bool partial = false) =>
        _published.Match(root, ids, blocks, partial);

    /// <summary>The oldest block with a hash, or 0.</summary>
    public int Find(in BlockHash hash) => _published.Find(hash);

    /// <summary>The token ids that a block's hash covers.</summary>
    public ReadOnlySpan<int> TokensOf(int block) => _published.TokensOf(block);

    /// <summary>Holds blocks that were hit and takes new ones, or refuses and changes nothing.</summary>
    /// <param name="hits">Blocks found by <see cref="Match"/>, each once; each gets a reference.</param>
    /// <param name="taken">Receives blocks without a hash, with one reference each.</param>
    /// <returns>False if there are fewer free blocks than are to be taken.</returns>
    public bool TryAllocate(ReadOnlySpan<int> hits, Span<int> taken)
    {
        int revived = 0;
        foreach (int block in hits)
        {
            revived += _blocks[block].References == 0 ? 1 : 0;
        }

        if (taken.Length > _free.Count - revived)
        {
            return false;
        }

        // The hits are held first, because a hit must not be taken as a new block.
        foreach (int block in hits)
        {
            Hold(block);
        }

        _retention.Decay();
        for (int i = 0; i < taken.Length; i++)
        {
            int block = _free.First;
            if (_blocks[block].Tokens > 0)
            {
                Forget(block);
            }

            _free.Remove(block);
            (_blocks[block].References, _blocks[block].Priority, _blocks[block].Milliseconds) = (1, DefaultPriority, 0);
            taken[i] = block;
        }

        return true;
    }

    /// <summary>Adds a reference; a free block is revived.</summary>
    public void Hold(int block)
    {
        if (_blocks[block].References++ == 0)
        {
            _free.Remove(block);
        }
    }

    /// <summary>Gives back one reference to each block of a sequence, which are listed from its first on; null blocks are passed over.</summary>
    /// <exception cref="InvalidOperationException">A block has no reference to give back.</exception>
    public void Release(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            if (block != 0 && _blocks[block].References <= _blocks[block].Pins)
            {
                throw new InvalidOperationException(
                    $"expected a block that a sequence holds, got block {block} with {_blocks[block].References} references, {_blocks[block].Pins} of them pins");
            }
        }

        ReleaseHeld(blocks);
    }

    /// <summary>Publishes consecutive blocks: they can be hit from now on and never change again.</summary>
    /// <param name="parent">Hash of the block before the first, or of the namespace.</param>
    /// <param name="hashes">The blocks' hashes, as <see cref="BlockHash.Chain"/> makes them.</param>
    /// <param name="ids">Their token ids; only the last block may hold fewer than a page.</param>
    /// <param name="blocks">The blocks, held and without a hash.</param>
    /// <exception cref="InvalidOperationException">A block is free or has a hash; nothing has changed.</exception>
    public void Publish(in BlockHash parent, ReadOnlySpan<BlockHash> hashes, ReadOnlySpan<int> ids, ReadOnlySpan<int> blocks)
    {
        if (!_sharing || blocks.IsEmpty)
        {
            return;
        }

        foreach (int block in blocks)
        {
            if (_blocks[block].References == 0 || _blocks[block].Tokens > 0)
            {
                throw new InvalidOperationException(
                    $"expected a held block without a hash, got block {block} with {_blocks[block].References} references and {_blocks[block].Tokens} hashed tokens");
            }
        }

        for (int i = 0; i < blocks.Length; i++)
        {
            ReadOnlySpan<int> covered = ids[(i * PageTokens)..Math.Min(ids.Length, (i + 1) * PageTokens)];
            _published.Add(blocks[i], i == 0 ? parent : hashes[i - 1], hashes[i], covered);
            Published?.Invoke(blocks[i]);
        }

        _events?.Add(new PrefixEvent(PrefixEventKind.Stored, hashes.ToArray(), parent, ids.ToArray()));
    }

    /// <summary>Takes the hash of the free block that is the next to go.</summary>
    /// <returns>The block, now the first of the free list; 0 if no free block has a hash.</returns>
    public int Evict()
    {
        _retention.Decay();
        int block = _free.FirstHashed;
        if (block != 0)
        {
            Discard(block);
        }

        return block;
    }

    /// <summary>Takes all hashes, if no block is held.</summary>
    /// <returns>False if a block is held; nothing has changed then.</returns>
    public bool TryReset()
    {
        if (_free.Count != Count - 1)
        {
            return false;
        }

        for (int block = 1; block < Count; block++)
        {
            if (_blocks[block].Tokens > 0)
            {
                Clear(block);
            }

            _free.Remove(block);
            _free.PushBack(block, FreeBlocks.Unhashed);
        }

        _events?.Add(new PrefixEvent(PrefixEventKind.AllCleared, default, default, default));
        return true;
    }

    /// <summary>Protects blocks from eviction until <see cref="Unpin"/>; pins count.</summary>
    public void Pin(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            Hold(block);
            _blocks[block].Pins++;
        }
    }

    /// <summary>Takes back one pin of each block.</summary>
    /// <exception cref="InvalidOperationException">A block has no pin; nothing has changed.</exception>
    public void Unpin(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            if (_blocks[block].Pins == 0)
            {
                throw new InvalidOperationException($"expected a pinned block, got block {block} without a pin");
            }
        }

        foreach (int block in blocks)
        {
            _blocks[block].Pins--;
        }

        ReleaseHeld(blocks);
    }

    /// <summary>Sets the priority that a held block has once nobody holds it.</summary>
    /// <param name="block">A held block.</param>
    /// <param name="priority">0..100.</param>
    /// <param name="milliseconds">How long it lasts, counted from the last release; 0 for ever.</param>
    public void SetRetention(int block, int priority, int milliseconds = 0) =>
        (_blocks[block].Priority, _blocks[block].Milliseconds) = (priority, milliseconds);

    /// <summary>The block's priority now.</summary>
    public int PriorityOf(int block)
    {
        _retention.Decay();
        return _blocks[block].Priority;
    }

    /// <summary>True if an evicted block is worth a place in the next tier; below the default priority it is dropped.</summary>
    public bool IsWorthOffloading(int block) => PriorityOf(block) >= DefaultPriority;

    /// <summary>Forgets the stored blocks of a sequence beyond a length, except those that somebody holds.</summary>
    /// <param name="root">Hash of the namespace.</param>
    /// <param name="ids">Token ids of the sequence.</param>
    /// <param name="length">Tokens to keep; a block that goes on beyond them is forgotten.</param>
    public void TruncateBranch(in BlockHash root, ReadOnlySpan<int> ids, int length)
    {
        int[] blocks = new int[(ids.Length / PageTokens) + 1];
        BlockMatch match = Match(root, ids, blocks, partial: true);
        bool isOwnTail = match.PartialTokens > 0 && match.Tokens == ids.Length && _blocks[blocks[match.Blocks - 1]].Tokens == match.PartialTokens;
        for (int i = (isOwnTail ? match.Blocks : match.WholeBlocks) - 1; i >= length / PageTokens; i--)
        {
            if (_blocks[blocks[i]].References == 0 && (i * PageTokens) + _blocks[blocks[i]].Tokens > length)
            {
                Discard(blocks[i]);
            }
        }
    }

    /// <summary>Releases the blocks of a sequence that lie wholly before a sliding window, and puts the null block in their place.</summary>
    /// <param name="table">The sequence's blocks.</param>
    /// <param name="computed">Number of tokens computed; the next token sees the last <paramref name="window"/> tokens, itself counted.</param>
    /// <param name="window">Tokens of the window, at least 1.</param>
    public void ReleaseOutsideWindow(Span<int> table, int computed, int window)
    {
        Span<int> outside = table[..Math.Clamp((computed - window + 1) / PageTokens, 0, table.Length)];
        Release(outside);
        outside.Clear();
    }

    /// <summary>The events since the last call, oldest first.</summary>
    public PrefixEvent[] TakeEvents()
    {
        PrefixEvent[] events = [.. _events ?? []];
        _events?.Clear();
        return events;
    }

    public void Dispose() => _memory.Dispose();

    private void ReleaseHeld(ReadOnlySpan<int> blocks)
    {
        // The deepest is the first to be shelved: a block cannot be hit without those before it, so it must not outlive them.
        for (int i = blocks.Length - 1; i >= 0; i--)
        {
            if (blocks[i] != 0 && --_blocks[blocks[i]].References == 0 && _blocks[blocks[i]].Tokens > 0)
            {
                _retention.Shelve(blocks[i]);
                Released?.Invoke(blocks[i]);
            }
        }

        foreach (int block in blocks)
        {
            if (block != 0 && _blocks[block].References == 0 && _blocks[block].Tokens == 0)
            {
                _free.PushFront(block, FreeBlocks.Unhashed);
            }
        }
    }

    private void Discard(int block)
    {
        Forget(block);
        _free.Remove(block);
        _free.PushFront(block, FreeBlocks.Unhashed);
    }

    private void Forget(int block)
    {
        BlockHash hash = _blocks[block].Hash;
        Clear(block);
        if (_events is not null && _published.Find(hash) == 0)
        {
            _events.Add(new PrefixEvent(PrefixEventKind.Removed, new[] { hash }, default, default));
        }
    }

    private void Clear(int block)
    {
        _published.Remove(block);
        _blocks[block].Expires = 0;
        _evicted?.Invoke(block);
    }
}
