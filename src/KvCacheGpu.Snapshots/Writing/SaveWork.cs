namespace KvCacheGpu;

/// <summary>A content on its way to the disk: cut into blocks, with the progress so far.</summary>
internal sealed class SaveWork(
    SnapshotName name,
    SnapshotContent content,
    SnapshotPageReader pages,
    DateTimeOffset created,
    int blockBytes,
    IProgress<SnapshotProgress>? progress,
    CancellationToken cancel)
{
    private readonly BlockPlan _plan = new(content, blockBytes);
    private long _done;

    public CancellationToken Cancel => cancel;

    public void Report(int bytes)
    {
        _done += bytes;
        progress?.Report(new SnapshotProgress(_done, 2 * _plan.DecodedBytes));
    }

    public SnapshotManifest ManifestFor(long generation, UInt128 salt, bool isEncrypted) => new()
    {
        Generation = generation,
        Salt = salt,
        IsEncrypted = isEncrypted,
        Name = name,
        Created = DateTimeOffset.FromUnixTimeMilliseconds(created.ToUnixTimeMilliseconds()),
        Sequences = content.Sequences.Count,
        Tokens = content.Sequences.Sum(sequence => (long)sequence.Length),
        Pages = content.Pages,
        Sections = _plan.Sections,
        Blocks = [],
    };

    /// <summary>Encodes and writes all blocks behind the header's place; returns the manifest with them.</summary>
    public SnapshotManifest WriteBlocks(OpenFile file, SnapshotManifest manifest, Func<BlockCodec> codec, int workers)
    {
        var records = new BlockRecord[_plan.Blocks];
        long offset = FileHeader.MostBytes;
        using var ring = new BlockRing(workers, _plan.Blocks, _plan.LargestBlock, _plan.LargestBlock + BlockCodec.TagBytes, codec);
        ring.Run(
            _plan.Blocks,
            (block, slot) => _plan.Fill(block, slot.Decoded, pages),
            (block, slot) => slot.Record = slot.Codec.Encode(slot.Decoded.AsSpan(0, _plan.Length(block)), slot.Stored, block),
            (block, slot) =>
            {
                file.Write(slot.Stored.AsSpan(0, slot.Record.Stored), offset);
                records[block] = slot.Record with { Offset = offset };
                offset += slot.Record.Stored;
                Report(slot.Record.Decoded);
            },
            cancel);
        return manifest with { Blocks = records, BlocksLength = offset };
    }
}
