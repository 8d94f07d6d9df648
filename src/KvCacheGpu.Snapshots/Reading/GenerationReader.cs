using System.Buffers.Binary;

namespace KvCacheGpu;

/// <summary>One generation of a snapshot, open: manifest and description are verified, pages as they are read.</summary>
internal sealed class GenerationReader : IDisposable
{
    private readonly OpenFile _file;
    private readonly BlockReader _blocks;
    private readonly PageMap _map;
    private byte[]? _last;
    private int _lastBlock;

    private GenerationReader(OpenFile file, SnapshotManifest manifest, SnapshotContent content, BlockReader blocks)
    {
        (_file, Manifest, Content, _blocks) = (file, manifest, content, blocks);
        _map = new PageMap(manifest, content);
    }

    public SnapshotManifest Manifest { get; }

    public SnapshotContent Content { get; }

    /// <summary>Reads a generation's manifest alone.</summary>
    public static SnapshotManifest ReadManifest(in StoreFolder folder, StoreNames names, long generation, UInt128? hash, SnapshotOptions options)
    {
        (SnapshotManifest manifest, OpenFile file) = OpenBlocks(folder, names, generation, hash, options);
        file.Dispose();
        return manifest;
    }

    /// <summary>Opens a generation; where CURRENT names its manifest's hash, it must be that one.</summary>
    public static GenerationReader Open(
        in StoreFolder folder, StoreNames names, long generation, UInt128? hash, SnapshotOptions options, CancellationToken cancel)
    {
        (SnapshotManifest manifest, OpenFile file) = OpenBlocks(folder, names, generation, hash, options);
        try
        {
            Func<BlockCodec> codec = CodecFor(names, generation, manifest.Salt, manifest.IsEncrypted, options);
            var blocks = new BlockReader(file, manifest, codec, options.Workers);
            return new GenerationReader(file, manifest, ReadContent(manifest, blocks, cancel), blocks);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Returns what makes codecs for a generation's blocks, one for each thread.</summary>
    public static Func<BlockCodec> CodecFor(StoreNames names, long generation, UInt128 salt, bool isEncrypted, SnapshotOptions options)
    {
        byte[] name = Convert.FromHexString(names.Hash);
        byte[] salted = new byte[16];
        BinaryPrimitives.WriteUInt128LittleEndian(salted, salt);
        byte[]? key = isEncrypted ? options.Key?.Derive(salted) : null;
        return () => new BlockCodec(name, generation, key);
    }

    /// <summary>Reads all pages in order.</summary>
    public void ReadPages(SnapshotPageSink sink, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        SectionRecord section = Manifest.Section(SectionKind.Pages);
        long done = 0;
        _blocks.Stream(
            section.FirstBlock,
            section.Blocks,
            (block, bytes) =>
            {
                sink(_map.FirstPage(block), bytes);
                done += bytes.Length;
                progress?.Report(new SnapshotProgress(done, section.Length));
            },
            cancel);
    }

    /// <summary>Reads some pages, whole ones, from any on.</summary>
    public void ReadPages(int firstPage, Span<byte> bytes, CancellationToken cancel)
    {
        // The caller's span cannot be captured; a block at a time goes through an array.
        while (bytes.Length > 0)
        {
            (int block, int skipped) = _map.Find(firstPage);
            byte[] decoded = Block(block, cancel);
            int taken = Math.Min(bytes.Length, decoded.Length - skipped);
            decoded.AsSpan(skipped, taken).CopyTo(bytes);
            bytes = bytes[taken..];
            firstPage = _map.FirstPage(block + 1);
        }
    }

    public void Dispose() => _file.Dispose();

    private byte[] Block(int block, CancellationToken cancel)
    {
        if (_lastBlock != block || _last is null)
        {
            byte[] decoded = new byte[Manifest.Blocks[block].Decoded];
            _blocks.Stream(block, 1, (_, bytes) => bytes.CopyTo(decoded), cancel);
            (_last, _lastBlock) = (decoded, block);
        }

        return _last;
    }

    // Reads the description, of any version, and checks that it holds together.
    private static SnapshotContent ReadContent(SnapshotManifest manifest, BlockReader blocks, CancellationToken cancel)
    {
        long pageBytes = manifest.Section(SectionKind.Pages).Length;
        SnapshotContent content = DescriptionSection.Read(blocks.ReadTable(SectionKind.Description, cancel), manifest.Version, out int oldPages);
        byte[] sequences = blocks.ReadTable(SectionKind.Sequences, cancel);
        content = manifest.Version == 0
            ? SequencesSection0.Read(sequences, content, oldPages, pageBytes)
            : SequencesSection.Read(sequences, PageTableSection.Read(blocks.ReadTable(SectionKind.PageTable, cancel), content));
        if (ContentCheck.FirstFlaw(content) is { } flaw)
        {
            throw new KvCorruptionException("a snapshot's description", flaw, "another");
        }

        long tokens = content.Sequences.Sum(sequence => (long)sequence.Length);
        bool isCounted = manifest.Version == 0
            || (manifest.Pages == content.Pages && manifest.Sequences == content.Sequences.Count && manifest.Tokens == tokens);
        return isCounted && content.PageBytes == pageBytes
            ? content
            : throw new KvCorruptionException(
                "a snapshot's description",
                $"{content.Sequences.Count} sequences of {tokens} tokens in {content.Pages} pages of {content.PageBytes} bytes",
                $"{manifest.Sequences} of {manifest.Tokens} in {manifest.Pages} of {pageBytes}");
    }

    private static (SnapshotManifest Manifest, OpenFile File) OpenBlocks(
        in StoreFolder folder, StoreNames names, long generation, UInt128? expected, SnapshotOptions options)
    {
        string name = names.Manifest(generation);
        byte[] bytes = folder.ReadWhole(name, SnapshotLimits.ManifestBytes);
        FileHeader header = FileHeader.Read(bytes, bytes.Length, FileKind.Manifest, name);
        UInt128 hash = SelfHash.Verified(bytes, header, name);
        if (header.Generation != generation || (expected is { } one && one != hash))
        {
            throw new KvCorruptionException(name, $"the manifest of generation {generation} that CURRENT names", $"one of generation {header.Generation}");
        }

        ThrowIfKeyDiffers(header, options, name);
        OpenFile file = folder.Directory.Open(names.Blocks(generation), FileUse.Read);
        try
        {
            FileHeader.ThrowIfBlocksDiffer(file, header, names.Blocks(generation));
            using BlockCodec codec = CodecFor(names, generation, header.Salt, header.IsEncrypted, options)();
            SnapshotManifest manifest = header.Version == 0
                ? ManifestFile0.Read(bytes, header, file.Length, hash)
                : ManifestFile.Read(bytes, header, codec, file.Length, hash);
            return StoreNames.Of(manifest.Name) == names
                ? (manifest, file)
                : throw new KvCorruptionException(name, "the name that its file is named by", manifest.Name.ToString());
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static void ThrowIfKeyDiffers(FileHeader header, SnapshotOptions options, string name)
    {
        if (header.IsEncrypted && options.Key is null)
        {
            throw new KvConfigurationException(name, "a key, as it is encrypted", "a store without one");
        }

        if (!header.IsEncrypted && options.Key is not null && !options.AcceptsPlain)
        {
            throw new KvConfigurationException(name, "an encrypted snapshot, as the store has a key and does not accept plain ones", "a plain one");
        }
    }
}
