using System.Collections.Concurrent;

namespace KvCacheGpu.Tests;

/// <summary>A tier that keeps blocks in a map, and can be made to fail, to wait, and to lie.</summary>
internal sealed class MapTier(string name = "map") : KvTier
{
    private readonly ConcurrentDictionary<BlockHash, byte[]> _blocks = [];

    public override string Name => name;

    public override long? BytesInUse => _blocks.Values.Sum(block => (long)block.Length);

    public override long? BytesLimit => null;

    public IReadOnlyCollection<BlockHash> Keys => [.. _blocks.Keys];

    /// <summary>Called with the keys of each read, before it looks.</summary>
    public Func<int, ValueTask>? Reading { get; set; }

    /// <summary>Called with the number of keys of each write, before it keeps them.</summary>
    public Func<int, ValueTask>? Writing { get; set; }

    public byte[] this[BlockHash key]
    {
        get => _blocks[key];
        set => _blocks[key] = value;
    }

    public void Clear() => _blocks.Clear();

    protected override async ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken)
    {
        if (Reading is { } reading)
        {
            await reading(keys.Length);
        }

        int length = blocks.Length / keys.Length;
        for (int i = 0; i < keys.Length; i++)
        {
            if (!_blocks.TryGetValue(keys.Span[i], out byte[]? block) || block.Length != length)
            {
                return i;
            }

            block.CopyTo(blocks[(i * length)..]);
        }

        return keys.Length;
    }

    protected override async ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken)
    {
        if (Writing is { } writing)
        {
            await writing(keys.Length);
        }

        int length = blocks.Length / keys.Length;
        int written = 0;
        for (int i = 0; i < keys.Length; i++)
        {
            written += _blocks.TryAdd(keys.Span[i], blocks.Slice(i * length, length).ToArray()) ? 1 : 0;
        }

        return written;
    }
}
