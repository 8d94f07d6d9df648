using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>How a tier divides attention into work for groups or warps.</summary>
/// <param name="BlockQueries">Queries of a block, at most.</param>
/// <param name="SegmentPages">Pages of a segment, at least.</param>
/// <param name="SegmentShift">A row has 2^this segments at most.</param>
internal readonly record struct WorkSplit(int BlockQueries, int SegmentPages, int SegmentShift);

/// <summary>
/// Parameters that all launches of a batch have in common, passed by value. Only 32-bit integers: no padding for a backend to disagree about.
/// </summary>
internal readonly struct KernelDims
{
    /// <summary>Word of the first block, a pair of (sequence, first query); word 0 holds the first element refused.</summary>
    public const int Blocks = 4;

    /// <summary>
    /// Words that describe one sequence: slot in the tables, first token, tokens, length, position whose statistics the tables receive (or -1), first row of its key table.
    /// </summary>
    public const int SequenceWords = 6;

    public readonly int Layers;
    public readonly int KvHeads;
    public readonly int GroupSize;
    public readonly int PageTokens;
    public readonly int KeyWidth;
    public readonly int ValueWidth;
    public readonly int Directory;
    public readonly int Leaves;
    public readonly int LeafShift;
    public readonly int LeafTags;
    public readonly int LeafStats;
    public readonly int LogSumExp;

    /// <summary>First word of the scores in a leaf; 0 where the tables keep no statistics.</summary>
    public readonly int LeafScores;

    public readonly int SegmentPages;
    public readonly int SegmentShift;
    public readonly int MaxTokens;
    public readonly int Sequences;
    public readonly int Owners;

    /// <summary>First word of the attention windows by layer; 0 where a layer was not attended to since the batch began.</summary>
    public readonly int Windows;

    public readonly uint KeyRefusedFrom;
    public readonly uint ValueRefusedFrom;

    /// <summary>Lays out the batch's integers: refusal, blocks, sequences, then the sequence that owns each token, then windows.</summary>
    public KernelDims(KernelShape shape, TableMap map, WorkSplit split, int maxSequences, int maxTokens)
    {
        KvGeometry g = shape.Geometry;
        (Layers, KvHeads, GroupSize) = (g.Layers, g.KvHeads, g.GroupSize);
        (PageTokens, KeyWidth, ValueWidth) = (g.PageTokens, g.KeyWidth, g.ValueWidth);
        (Directory, Leaves, LeafShift, LogSumExp) = (map.Directory, map.Leaves, map.LeafShift, map.LogSumExp);
        (LeafTags, LeafStats, LeafScores) = (map.LeafTags, map.LeafStats, shape.HasStatistics ? map.LeafScores : 0);
        (KeyRefusedFrom, ValueRefusedFrom) = (shape.KeyRefusedFrom, shape.ValueRefusedFrom);
        (SegmentPages, SegmentShift, MaxTokens) = (split.SegmentPages, split.SegmentShift, maxTokens);
        Sequences = checked(Blocks + (2 * MaxBlocks(maxSequences, maxTokens, g.GroupSize, split.BlockQueries)));
        Owners = checked(Sequences + (SequenceWords * maxSequences));
        Windows = checked(Owners + maxTokens);
    }

    /// <summary>The same with other segments.</summary>
    public KernelDims(KernelDims dims, int segmentPages, int segmentShift)
    {
        this = dims;
        (SegmentPages, SegmentShift) = (segmentPages, segmentShift);
    }

    /// <summary>Words of the batch's integers.</summary>
    public int BatchWords => Windows + Layers;

    /// <summary>Segments of a row, at most.</summary>
    public int MaxSegments => 1 << SegmentShift;

    /// <summary>
    /// Blocks of queries that a batch has at most: each sequence's last may be partly filled, and a smaller block than <paramref name="blockQueries"/> holds all
    /// queries of its sequence.
    /// </summary>
    public static int MaxBlocks(int maxSequences, int maxTokens, int groupSize, int blockQueries) =>
        checked((maxTokens * groupSize / blockQueries) + maxSequences);

    /// <summary>Pages of one segment of a query that sees <paramref name="pages"/> of its row.</summary>
    public int PagesOfSegment(int pages) => Segments.Pages(pages, SegmentPages, SegmentShift);

    /// <summary>Segments of such a query: each has a page at least.</summary>
    public int SegmentsOf(int pages) => (pages + PagesOfSegment(pages) - 1) / PagesOfSegment(pages);

    /// <summary>Pages that a graph for so many segments has to cover: rows of any length where no row has more segments.</summary>
    public int PagesOfShape(int segments) => segments < MaxSegments ? segments * SegmentPages : int.MaxValue / 2;

    /// <summary>Word of the count of a (sequence slot, layer, head).</summary>
    public int CountWord(int sequence, int layer, int head) => (((sequence * Layers) + layer) * KvHeads) + head;

    /// <summary>Word of the directory that names the leaf of an entry, or of a page index.</summary>
    public int DirectoryWord(int sequence, int index) => Directory + (sequence * Leaves) + (index >> LeafShift);

    /// <summary>The place of an entry, or of a page index, among all those of its leaf: rows one after the other.</summary>
    public int InLeaf(int layer, int head, int index) => (((layer * KvHeads) + head) << LeafShift) + (index & ((1 << LeafShift) - 1));

    /// <summary>The words of the leaf that holds an entry, or a page index, and all behind it.</summary>
    public ArrayView<int> Leaf(ArrayView<int> arena, int sequence, int index) => AppendKernel.Page(arena, arena[DirectoryWord(sequence, index)]);
}
