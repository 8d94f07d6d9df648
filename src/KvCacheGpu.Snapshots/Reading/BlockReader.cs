namespace KvCacheGpu;

/// <summary>Takes a verified block.</summary>
internal delegate void BlockSink(int block, ReadOnlySpan<byte> decoded);

/// <summary>The blocks file of one generation: reads, decodes and verifies what its manifest names.</summary>
internal sealed class BlockReader(OpenFile file, SnapshotManifest manifest, Func<BlockCodec> codec, int workers)
{
    /// <summary>Reads a range of blocks, several at once, and hands them over in order.</summary>
    public void Stream(int first, int count, BlockSink sink, CancellationToken cancel)
    {
        if (count == 0)
        {
            return;
        }

        using var ring = new BlockRing(workers, count, Largest(first, count, block => block.Decoded), Largest(first, count, block => block.Stored), codec);
        ring.Run(
            count,
            (i, slot) => file.Read(slot.Stored.AsSpan(0, manifest.Blocks[first + i].Stored), manifest.Blocks[first + i].Offset),
            (i, slot) => Decode(first + i, slot),
            (i, slot) => sink(first + i, slot.Decoded.AsSpan(0, manifest.Blocks[first + i].Decoded)),
            cancel);
    }

    /// <summary>A whole table.</summary>
    public byte[] ReadTable(SectionKind kind, CancellationToken cancel)
    {
        SectionRecord section = manifest.Section(kind);
        byte[] table = new byte[section.Length];
        int at = 0;
        Stream(
            section.FirstBlock,
            section.Blocks,
            (_, bytes) =>
            {
                bytes.CopyTo(table.AsSpan(at));
                at += bytes.Length;
            },
            cancel);
        return table;
    }

    private void Decode(int block, BlockSlot slot)
    {
        BlockRecord record = manifest.Blocks[block];
        slot.Codec.Decode(slot.Stored.AsSpan(0, record.Stored), slot.Decoded.AsSpan(0, record.Decoded), record, block, manifest.Version);
    }

    private int Largest(int first, int count, Func<BlockRecord, int> bytes)
    {
        int largest = 0;
        for (int block = first; block < first + count; block++)
        {
            largest = Math.Max(largest, bytes(manifest.Blocks[block]));
        }

        return largest;
    }
}
