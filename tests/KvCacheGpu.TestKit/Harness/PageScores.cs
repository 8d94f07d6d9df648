using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The scores of one page, as <see cref="TableMap"/> names their words.</summary>
public readonly record struct PageScores(
    float Mass, float Peak, float Last, float Window, int LastUsed, int Uses, float KeySquare, float ValueSquare)
{
    /// <summary>Reads them from their words.</summary>
    public static PageScores Of(ReadOnlySpan<int> words) => new(
        BitConverter.Int32BitsToSingle(words[TableMap.ScoreMass]),
        BitConverter.Int32BitsToSingle(words[TableMap.ScorePeak]),
        BitConverter.Int32BitsToSingle(words[TableMap.ScoreLast]),
        BitConverter.Int32BitsToSingle(words[TableMap.ScoreWindow]),
        words[TableMap.ScoreLastUsed],
        words[TableMap.ScoreUses],
        BitConverter.Int32BitsToSingle(words[TableMap.ScoreKeySquare]),
        BitConverter.Int32BitsToSingle(words[TableMap.ScoreValueSquare]));
}
