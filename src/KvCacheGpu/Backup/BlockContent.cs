using System.Buffers.Binary;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>What a block of a cache is outside of its device: bytes that are checked end to end, whatever tier they come from, and the key that names them.</summary>
/// <remarks>
/// <code>
/// per row (layer, KV head):   its page, as it lies in its slot, in the layout that the layer seals in
/// per row:                    how often its keys and values were encoded with loss, 1 byte
/// (zeros up to 16 bytes)
/// XxHash128 of all before it, its seed taken from the key, 16 bytes
/// </code>
/// The key is the SHA-256 of the block's hash together with all that says how pages lie and of what: the shape, the layouts of the layers, the tables of levels, the heads and the first
/// layer. So caches that lay pages out otherwise, or are other parts of a group, never meet each other's blocks.
/// </remarks>
internal sealed class BlockContent
{
    private const int CheckBytes = KvLayouts.CheckBytes;
    private const byte PageEncodingsMask = 15;

    private readonly CacheState _cache;
    private readonly BlockHash _shape;
    private readonly int _pageBytes;

    public BlockContent(CacheState cache)
    {
        _cache = cache;
        _shape = ShapeOf(cache);
        KernelShape shape = cache.Tier.Shape;
        PageLayout[] layers = [.. Enumerable.Range(0, cache.Geometry.Layers).Select(layer => shape.Classes[cache.Classes.SealedIn(layer)])];
        _pageBytes = checked((int)KvLayouts.PageBytesOf(layers, cache.Geometry.KvHeads));
        Bytes = checked((int)KvLayouts.BlockBytesOf(layers, cache.Geometry.KvHeads));
        Rows = layers.Length * cache.Geometry.KvHeads;
    }

    /// <summary>Bytes of a block.</summary>
    public int Bytes { get; }

    /// <summary>Layers times KV heads.</summary>
    public int Rows { get; }

    /// <summary>Slots of a block's pages, by class.</summary>
    public SlotCounts Slots
    {
        get
        {
            SlotCounts slots = default;
            for (int layer = 0; layer < _cache.Geometry.Layers; layer++)
            {
                slots[_cache.Classes.SealedIn(layer)] += _cache.Geometry.KvHeads;
            }

            return slots;
        }
    }

    /// <summary>The class that a row's sealed pages are of.</summary>
    public int ClassOf(int row) => _cache.Classes.SealedIn(row / _cache.Geometry.KvHeads);

    /// <summary>The key of the block with a hash.</summary>
    public BlockHash KeyOf(in BlockHash hash)
    {
        Span<byte> content = stackalloc byte[1 + (2 * BlockHash.Bytes)];
        content[0] = (byte)'D';
        MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHash>(in _shape)).CopyTo(content[1..]);
        MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHash>(in hash)).CopyTo(content[(1 + BlockHash.Bytes)..]);
        return BlockHash.Of(content);
    }

    /// <summary>Copies the pages of a block out of the device.</summary>
    /// <param name="slots">Their slots, one for each row.</param>
    /// <param name="encodings">How often each was encoded with loss.</param>
    /// <param name="key">The block's key.</param>
    /// <param name="block">Receives the block.</param>
    public void Read(ReadOnlySpan<int> slots, ReadOnlySpan<byte> encodings, in BlockHash key, Span<byte> block)
    {
        Span<byte> pages = block;
        for (int row = 0; row < slots.Length; row++)
        {
            int length = _cache.Tier.Shape.Classes[ClassOf(row)].Bytes;
            using (_cache.DeviceGate.Enter())
            {
                _cache.ThrowIfDisposed();
                _cache.Reader.Read(slots[row], MemoryMarshal.Cast<byte, int>(pages[..length]));
            }

            pages = pages[length..];
        }

        block[_pageBytes..].Clear();
        encodings.CopyTo(block[_pageBytes..]);
        BinaryPrimitives.WriteUInt128LittleEndian(block[^CheckBytes..], CheckOf(key, block));
    }

    /// <summary>True if a block is what was written under its key.</summary>
    public bool IsWhole(in BlockHash key, ReadOnlySpan<byte> block)
    {
        if (BinaryPrimitives.ReadUInt128LittleEndian(block[^CheckBytes..]) != CheckOf(key, block))
        {
            return false;
        }

        foreach (byte encodings in block.Slice(_pageBytes, Rows))
        {
            if (encodings > PageEncodingsMask)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Writes a block's pages into slots that were just taken, and notes what they are; the caller is inside of the pool's gate.</summary>
    /// <param name="block">The block, which is whole.</param>
    /// <param name="slots">A slot for each row, of its class.</param>
    /// <param name="owner">Whose the pages are.</param>
    public void Write(ReadOnlySpan<byte> block, ReadOnlySpan<int> slots, int owner)
    {
        ReadOnlySpan<byte> pages = block;
        for (int row = 0; row < slots.Length; row++)
        {
            int pageClass = ClassOf(row);
            int length = _cache.Tier.Shape.Classes[pageClass].Bytes;
            _cache.Writer.Import(_cache.Writer.Ready(slots[row], pageClass, owner), MemoryMarshal.Cast<byte, int>(pages[..length]));
            _cache.Pool.SetEncodings(slots[row], Encodings.Of(block[_pageBytes + row]));
            _cache.Pool.Seal(slots[row], pageClass);
            pages = pages[length..];
        }
    }

    private static UInt128 CheckOf(in BlockHash key, ReadOnlySpan<byte> block)
    {
        long seed = MemoryMarshal.Read<long>(MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHash>(in key)));
        return XxHash128.HashToUInt128(block[..^CheckBytes], seed);
    }

    private static BlockHash ShapeOf(CacheState cache)
    {
        KvGeometry geometry = cache.Geometry;
        var text = new StringBuilder($"KvCacheGpu block 1 {geometry.Layers} {geometry.QueryHeads} {geometry.Heads.Start}+{geometry.KvHeads} ");
        text.Append($"{geometry.KeyWidth} {geometry.ValueWidth} {geometry.PageTokens} {Levels.Version} {cache.Options.FirstLayer}");
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            PageLayout layout = cache.Tier.Shape.Classes[cache.Classes.SealedIn(layer)];
            text.Append($" {(int)layout.KeyFormat}/{(int)layout.ValueFormat}/{layout.Bytes}");
        }

        return BlockHash.Of(Encoding.ASCII.GetBytes(text.ToString()));
    }
}
