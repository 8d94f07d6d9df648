using System.Buffers;

namespace KvCacheGpu;

/// <summary>
/// Brings blocks of a prefix from lower tiers into the prefix index, where they are like blocks that sequences have left behind: nobody holds them, and they go when room is needed.
/// Bytes are read outside of all gates; each block is written to the device and published inside of one stay in the pool's gate.
/// </summary>
internal sealed class BlockFetch(CacheState cache, PrefixPages prefixes, BlockContent content)
{
    /// <summary>Fetches the blocks that follow the resident ones, up to the first that no tier has.</summary>
    /// <param name="root">The namespace's hash.</param>
    /// <param name="ids">Token ids of the prefix.</param>
    /// <param name="tenant">Whose they are.</param>
    /// <param name="isLate">True if a sequence waits for them.</param>
    /// <param name="cancel">Ends the wait; what has come stays.</param>
    /// <returns>Tokens of whole blocks that are resident now.</returns>
    public async ValueTask<int> FetchAsync(BlockHash root, int[] ids, string? tenant, bool isLate, CancellationToken cancel)
    {
        int pageTokens = cache.Geometry.PageTokens;
        var run = new Run(root, ids, pageTokens, tenant, isLate);
        int resident = Resident(run);
        int atOnce = cache.Options.EnablePrefetch ? cache.Options.PrefetchSize : 1;
        byte[] current = ArrayPool<byte>.Shared.Rent(Math.Min(atOnce, run.Hashes.Length - resident) * content.Bytes);
        byte[] following = cache.Options.EnablePrefetch ? ArrayPool<byte>.Shared.Rent(current.Length) : current;
        Task<int> coming = Task.FromResult(0);
        try
        {
            int wanted = Math.Min(atOnce, run.Hashes.Length - resident);
            coming = wanted > 0 ? ReadAsync(run.KeysFrom(content, resident, wanted), current, cancel) : coming;
            while (wanted > 0)
            {
                int came = await coming.ConfigureAwait(false);
                int next = Math.Min(atOnce, run.Hashes.Length - resident - came);
                bool isAhead = came == wanted && next > 0 && following != current;
                coming = isAhead ? ReadAsync(run.KeysFrom(content, resident + came, next), following, cancel) : Task.FromResult(0);
                for (int i = 0; i < came; i++, resident++)
                {
                    if (!TryPublish(run, resident, current.AsSpan(i * content.Bytes, content.Bytes)))
                    {
                        return resident * pageTokens;
                    }
                }

                if (came < wanted || next == 0)
                {
                    break;
                }

                coming = isAhead ? coming : ReadAsync(run.KeysFrom(content, resident, next), current, cancel);
                (current, following, wanted) = (following, current, next);
            }

            return resident * pageTokens;
        }
        finally
        {
            // It writes into memory that is given back.
            await coming.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default).ConfigureAwait(false);
            ArrayPool<byte>.Shared.Return(current);
            if (following != current)
            {
                ArrayPool<byte>.Shared.Return(following);
            }
        }
    }

    private int Resident(in Run run)
    {
        using (cache.EnterLive())
        {
            int blocks = 0;
            while (blocks < run.Hashes.Length && prefixes.Index.Find(run.Hashes[blocks]) != 0)
            {
                blocks++;
            }

            return blocks;
        }
    }

    // From the nearest tier that has each block; those above get what they missed. No tier is asked twice for a block that it does not have.
    private async Task<int> ReadAsync(BlockHash[] keys, byte[] blocks, CancellationToken cancel)
    {
        IReadOnlyList<KvTier> tiers = cache.Options.Tiers;
        int[] missing = new int[tiers.Count];
        Array.Fill(missing, -1);
        for (int read = 0; ;)
        {
            int before = read;
            for (int i = 0; i < tiers.Count && read < keys.Length; i++)
            {
                if (missing[i] == read || IsDearer(tiers[i]))
                {
                    continue;
                }

                ReadOnlyMemory<BlockHash> rest = keys.AsMemory(read);
                Memory<byte> room = blocks.AsMemory(read * content.Bytes, rest.Length * content.Bytes);
                int came = await tiers[i].ReadAsync(rest, room, cancel).ConfigureAwait(false);
                came = Whole(tiers[i], rest.Span, room.Span, came);
                for (int above = 0; above < i && came > 0; above++)
                {
                    await tiers[above].WriteAsync(rest[..came], room[..(came * content.Bytes)], cancel).ConfigureAwait(false);
                }

                read += came;
                missing[i] = read;
            }

            if (read == before || read == keys.Length)
            {
                return read;
            }
        }
    }

    private int Whole(KvTier tier, ReadOnlySpan<BlockHash> keys, ReadOnlySpan<byte> blocks, int came)
    {
        for (int i = 0; i < came; i++)
        {
            if (!content.IsWhole(keys[i], blocks.Slice(i * content.Bytes, content.Bytes)))
            {
                tier.NoteError(new InvalidDataException($"expected block {keys[i]} as it was written, got other bytes"));
                return i;
            }
        }

        return came;
    }

    // Of what it took lately; a tier that was never read is asked.
    private bool IsDearer(KvTier tier) =>
        cache.Options.RecomputeTokensPerSecond is { } rate && tier.SecondsPerByte * content.Bytes > cache.Geometry.PageTokens / rate;

    private bool TryPublish(in Run run, int page, ReadOnlySpan<byte> block)
    {
        BlockIndex index = prefixes.Index;
        using var blocks = new Pooled<int>(page + 1);
        using var slots = new Pooled<int>(content.Rows);
        using (cache.EnterLive())
        {
            for (int before = 0; before < page; before++)
            {
                if ((blocks.Span[before] = index.Find(run.Hashes[before])) == 0)
                {
                    return false;
                }
            }

            if (index.Find(run.Hashes[page]) != 0)
            {
                return true;
            }

            // Held, what comes before is not given up for the room of what follows.
            blocks.Span[page] = 0;
            foreach (int before in blocks.Span[..page])
            {
                index.Hold(before);
            }

            try
            {
                if (!TryTake(slots.Span))
                {
                    return false;
                }

                try
                {
                    content.Write(block, slots.Span, cache.Tenants.Of(run.Tenant).Number);
                    blocks.Span[page] = prefixes.Bind(slots.Span);
                    prefixes.Below!.AddFetched(blocks.Span[page], run.IsLate);
                    int first = page * cache.Geometry.PageTokens;
                    index.Publish(
                        page == 0 ? run.Root : run.Hashes[page - 1], run.Hashes.AsSpan(page, 1), run.Ids.AsSpan(first, cache.Geometry.PageTokens), blocks.Span[page..]);
                    return true;
                }
                finally
                {
                    cache.Pool.Release(slots.Span);
                }
            }
            finally
            {
                index.Release(blocks.Span);
            }
        }
    }

    private bool TryTake(Span<int> slots)
    {
        using var taken = new Pooled<int>(slots.Length);
        try
        {
            if (cache.Room.TakeOrRefuse("a block of a lower tier", content.Slots, taken.Span, leavesSpare: true) is not null)
            {
                return false;
            }
        }
        catch (KvOutOfMemoryException)
        {
            // What comes before the block is held here, and counts as free all the same.
            return false;
        }

        // Rows want theirs by layer.
        SlotCounts next = content.Slots.Starts();
        for (int row = 0; row < slots.Length; row++)
        {
            slots[row] = taken.Span[next[content.ClassOf(row)]++];
        }

        return true;
    }

    // A prefix's whole blocks.
    private readonly record struct Run
    {
        public Run(BlockHash root, int[] ids, int pageTokens, string? tenant, bool isLate)
        {
            (Root, Ids, Tenant, IsLate) = (root, ids, tenant, isLate);
            Hashes = new BlockHash[ids.Length / pageTokens];
            BlockHash.Chain(root, ids, pageTokens, Hashes);
        }

        public BlockHash Root { get; }

        public int[] Ids { get; }

        public string? Tenant { get; }

        public bool IsLate { get; }

        public BlockHash[] Hashes { get; }

        public BlockHash[] KeysFrom(BlockContent content, int first, int count)
        {
            var keys = new BlockHash[count];
            for (int i = 0; i < count; i++)
            {
                keys[i] = content.KeyOf(Hashes[first + i]);
            }

            return keys;
        }
    }
}
