namespace KvCacheGpu;

/// <summary>One place in the ring: a block decoded and as it is stored, and the codec of whichever thread works on it.</summary>
internal sealed class BlockSlot(int decodedBytes, int storedBytes, BlockCodec codec) : IDisposable
{
    public byte[] Decoded { get; } = GC.AllocateUninitializedArray<byte>(decodedBytes);

    public byte[] Stored { get; } = GC.AllocateUninitializedArray<byte>(storedBytes);

    public BlockCodec Codec { get; } = codec;

    public BlockRecord Record { get; set; }

    public Task Work { get; set; } = Task.CompletedTask;

    public void Dispose() => Codec.Dispose();
}

/// <summary>
/// Blocks on their way between pages and disk: filled in order, worked on by several threads at once, drained in order. Its slots are
/// all the memory that saving or loading takes, whatever the snapshot's size: (workers + 2) * 2 blocks.
/// </summary>
internal sealed class BlockRing : IDisposable
{
    private readonly BlockSlot[] _slots;
    private readonly bool _isInline;

    /// <summary>Takes room for blocks of so many bytes at most; one worker is the caller's thread.</summary>
    public BlockRing(int workers, int blocks, int decodedBytes, int storedBytes, Func<BlockCodec> codec)
    {
        _isInline = workers == 1 || blocks == 1;
        int slots = _isInline ? 1 : Math.Min(workers + 2, blocks);
        _slots = [.. Enumerable.Range(0, slots).Select(_ => new BlockSlot(decodedBytes, storedBytes, codec()))];
    }

    /// <summary>Sends blocks 0 .. count - 1 through; <paramref name="fill"/> and <paramref name="drain"/> run on the calling thread.</summary>
    public void Run(int count, Action<int, BlockSlot> fill, Action<int, BlockSlot> work, Action<int, BlockSlot> drain, CancellationToken cancel)
    {
        int drained = 0;
        try
        {
            for (int block = 0; block < count; block++)
            {
                cancel.ThrowIfCancellationRequested();
                if (block - drained == _slots.Length)
                {
                    Drain(drained++, drain);
                }

                BlockSlot slot = _slots[block % _slots.Length];
                int index = block;
                fill(index, slot);
                if (_isInline)
                {
                    work(index, slot);
                }
                else
                {
                    slot.Work = Task.Run(() => work(index, slot), CancellationToken.None);
                }
            }

            while (drained < count)
            {
                cancel.ThrowIfCancellationRequested();
                Drain(drained++, drain);
            }
        }
        finally
        {
            // Buffers and codecs go only when no thread is at them.
            foreach (BlockSlot slot in _slots)
            {
                if (!slot.Work.IsCompleted)
                {
                    ((IAsyncResult)slot.Work).AsyncWaitHandle.WaitOne();
                }

                _ = slot.Work.Exception;
            }
        }
    }

    public void Dispose()
    {
        foreach (BlockSlot slot in _slots)
        {
            slot.Dispose();
        }
    }

    private void Drain(int block, Action<int, BlockSlot> drain)
    {
        BlockSlot slot = _slots[block % _slots.Length];
        slot.Work.GetAwaiter().GetResult();
        drain(block, slot);
    }
}
