namespace KvCacheGpu;

/// <summary>Finds the block in which a page lies. Blocks hold whole pages, one behind the other.</summary>
internal sealed class PageMap
{
    private readonly SectionRecord _section;
    private readonly int[] _firstPages;
    private readonly SnapshotContent _content;

    /// <exception cref="KvCorruptionException">A block begins or ends within a page.</exception>
    public PageMap(SnapshotManifest manifest, SnapshotContent content)
    {
        (_section, _content) = (manifest.Section(SectionKind.Pages), content);
        _firstPages = new int[_section.Blocks + 1];
        int page = 0;
        for (int block = 0; block < _section.Blocks; block++)
        {
            _firstPages[block] = page;
            long left = manifest.Blocks[_section.FirstBlock + block].Decoded;
            while (left > 0 && page < content.Pages)
            {
                left -= content.BytesOf(page++);
            }

            if (left != 0)
            {
                throw new KvCorruptionException("a snapshot's pages", "blocks of whole pages", $"a block that ends within page {page - 1}");
            }
        }

        _firstPages[^1] = page;
        if (page != content.Pages)
        {
            throw new KvCorruptionException("a snapshot's pages", $"{content.Pages} pages", $"{page}");
        }
    }

    /// <summary>First page of a block of the snapshot; one block beyond the last, the count of pages.</summary>
    public int FirstPage(int block) => _firstPages[block - _section.FirstBlock];

    /// <summary>The block in which a page lies, and the bytes of it before the page.</summary>
    public (int Block, int Skipped) Find(int page)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(page);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(page, _content.Pages);
        int found = Array.BinarySearch(_firstPages, page);
        int block = found >= 0 ? found : ~found - 1;
        int skipped = 0;
        for (int before = _firstPages[block]; before < page; before++)
        {
            skipped += _content.BytesOf(before);
        }

        return (_section.FirstBlock + block, skipped);
    }
}
