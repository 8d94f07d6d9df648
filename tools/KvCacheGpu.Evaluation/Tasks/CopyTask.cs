namespace KvCacheGpu.Evaluation;

/// <summary>Segments of random words that come again: after its first words the rest of each can only be copied.</summary>
internal sealed class CopyTask : EvalTask
{
    private const int SegmentTokens = 8;
    private const int Given = 3;

    public override string Name => "copy";

    public override string Summary => "segments of random words that come again";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        int[] words = text.Language.Values.ToArray();
        random.Shuffle(words);
        int[][] segments = [.. words.Take(scale.Segments * SegmentTokens).Chunk(SegmentTokens).Where(s => s.Length == SegmentTokens)];
        int[] document = text.Document(random, EvalScale.Quiet(scale.Tokens), [], [.. segments.Select(s => (random.NextDouble(), s))]);
        return
        [
            new EvalPrompt(
                [new EvalPart(EvalAct.Read, document), .. segments.Select(s => new EvalPart(EvalAct.Probe, s, SegmentTokens - Given))]),
        ];
    }
}
