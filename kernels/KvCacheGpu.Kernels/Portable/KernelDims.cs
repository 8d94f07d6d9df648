namespace KvCacheGpu.Kernels;

/// <summary>
/// Parameters that all launches of a batch have in common, passed by value. Only 32-bit integers: no padding for a backend to disagree about.
/// </summary>
internal readonly struct KernelDims
{
    /// <summary>Word of the first block, a pair of (sequence, first query); word 0 holds the first element refused.</summary>
    public const int Blocks = 4;

    /// <summary>Words that describe one sequence: slot in the tables, first token, tokens, length, position whose statistics the tables receive (or -1).</summary>
    public const int SequenceWords = 5;

    public readonly int Layers;
    public readonly int KvHeads;
    public readonly int GroupSize;
    public readonly int Capacity;
    public readonly int PageTokens;
    public readonly int KeyWidth;
    public readonly int ValueWidth;
    public readonly int Slots;
    public readonly int Tags;
    public readonly int Stats;
    public readonly int LogSumExp;
    public readonly int Scores;
    public readonly int SegmentPages;
    public readonly int MaxTokens;
    public readonly int Sequences;
    public readonly int Owners;

    /// <summary>First word of the attention windows by layer; 0 where a layer was not attended to since the batch began.</summary>
    public readonly int Windows;

    public readonly uint KeyRefusedFrom;
    public readonly uint ValueRefusedFrom;

    /// <summary>Lays out the batch's integers: refusal, blocks, sequences, then the sequence that owns each token, then windows.</summary>
    public KernelDims(KernelShape shape, TableMap map, int segmentPages, int maxSequences, int maxTokens)
    {
        KvGeometry g = shape.Geometry;
        (Layers, KvHeads, GroupSize, Capacity) = (g.Layers, g.KvHeads, g.GroupSize, shape.TableCapacity);
        (PageTokens, KeyWidth, ValueWidth) = (g.PageTokens, g.KeyWidth, g.ValueWidth);
        (Slots, Tags, Stats, LogSumExp, Scores) = (map.Slots, map.Tags, map.Stats, map.LogSumExp, map.Scores);
        (KeyRefusedFrom, ValueRefusedFrom) = (shape.KeyRefusedFrom, shape.ValueRefusedFrom);
        (SegmentPages, MaxTokens) = (segmentPages, maxTokens);
        Sequences = checked(Blocks + (2 * MaxBlocks(maxSequences, maxTokens, g.GroupSize)));
        Owners = checked(Sequences + (SequenceWords * maxSequences));
        Windows = checked(Owners + maxTokens);
    }

    /// <summary>Words of the batch's integers.</summary>
    public int BatchWords => Windows + Layers;

    /// <summary>Blocks of queries that a batch has at most: each sequence's last may be partly filled, and blocks of one query are whole sequences.</summary>
    public static int MaxBlocks(int maxSequences, int maxTokens, int groupSize) =>
        checked((maxTokens * groupSize / 4) + maxSequences);

    /// <summary>Table row of a (sequence slot, layer, head).</summary>
    public int Row(int sequence, int layer, int head) => (((sequence * Layers) + layer) * KvHeads) + head;
}
