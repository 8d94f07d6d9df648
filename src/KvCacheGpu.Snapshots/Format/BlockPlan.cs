namespace KvCacheGpu;

/// <summary>Cuts a content into sections and blocks. Tables are cut into equal pieces; a block of pages has as many whole ones as fit, and at least one.</summary>
internal sealed class BlockPlan
{
    private readonly List<Piece> _pieces = [];
    private readonly List<SectionRecord> _sections = [];

    public BlockPlan(SnapshotContent content, int blockBytes)
    {
        AddTable(SectionKind.Description, DescriptionSection.Write(content), blockBytes);
        AddTable(SectionKind.PageTable, PageTableSection.Write(content), blockBytes);
        AddTable(SectionKind.Sequences, SequencesSection.Write(content), blockBytes);
        AddPages(content, blockBytes);
    }

    /// <summary>Sections as the manifest lists them.</summary>
    public IReadOnlyList<SectionRecord> Sections => _sections;

    public int Blocks => _pieces.Count;

    public int LargestBlock => _pieces.Max(piece => piece.Length);

    public long DecodedBytes => _sections.Sum(section => section.Length);

    public int Length(int block) => _pieces[block].Length;

    /// <summary>Writes a block's decoded bytes.</summary>
    public void Fill(int block, Span<byte> bytes, SnapshotPageReader pages)
    {
        Piece piece = _pieces[block];
        if (piece.Table.IsEmpty)
        {
            pages(piece.FirstPage, bytes[..piece.Length]);
        }
        else
        {
            piece.Table.Span.CopyTo(bytes);
        }
    }

    private void AddPages(SnapshotContent content, int blockBytes)
    {
        (int firstBlock, int firstPage, long length, long total) = (_pieces.Count, 0, 0L, 0L);
        for (int page = 0; page < content.Pages; page++)
        {
            int bytes = content.BytesOf(page);
            if (length > 0 && length + bytes > blockBytes)
            {
                _pieces.Add(new Piece(default, firstPage, (int)length));
                (firstPage, length) = (page, 0);
            }

            length += bytes;
            total += bytes;
        }

        if (length > 0)
        {
            _pieces.Add(new Piece(default, firstPage, (int)length));
        }

        _sections.Add(new SectionRecord(SectionKind.Pages, 1, firstBlock, _pieces.Count - firstBlock, total));
    }

    private void AddTable(SectionKind kind, SectionWriter table, int blockBytes)
    {
        ReadOnlyMemory<byte> bytes = table.WrittenMemory;
        if (bytes.Length > SnapshotLimits.TableBytes)
        {
            throw new ArgumentException($"expected {kind} of at most {SnapshotLimits.TableBytes} bytes, got {bytes.Length}");
        }

        int firstBlock = _pieces.Count;
        for (int at = 0; at < bytes.Length; at += blockBytes)
        {
            int length = Math.Min(blockBytes, bytes.Length - at);
            _pieces.Add(new Piece(bytes.Slice(at, length), 0, length));
        }

        _sections.Add(new SectionRecord(kind, 1, firstBlock, _pieces.Count - firstBlock, bytes.Length));
    }

    private readonly record struct Piece(ReadOnlyMemory<byte> Table, int FirstPage, int Length);
}
