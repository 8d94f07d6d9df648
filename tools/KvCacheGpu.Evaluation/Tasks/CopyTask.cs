namespace KvCacheGpu.Evaluation;

/// <summary>
/// Segments of random tokens, each of which occurs several times in a text and then once more: after its first tokens, the rest of each can only be
/// copied. It occurs several times, because the demo model was trained with segments that recur, and does not find one that it has seen only once.
/// </summary>
internal sealed class CopyTask : EvalTask
{
    private const int SegmentTokens = 12;
    private const int Given = 5;
    private const int Recurrences = 6;

    public override string Name => "copy";

    public override string Summary => "segments of random tokens that come again";

    public override bool NeedsFacts => false;

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        int[][] segments = [.. Enumerable.Range(0, scale.Segments).Select(_ => text.Scatter(random, SegmentTokens))];
        int[] document = text.Document(
            random, EvalScale.Quiet(scale.Tokens), [], [.. segments.SelectMany(s => Enumerable.Repeat(s, Recurrences)).Select(s => (random.NextDouble(), s))]);
        return
        [
            new EvalPrompt(
                [new EvalPart(EvalAct.Read, document), .. segments.Select(s => new EvalPart(EvalAct.Probe, s, SegmentTokens - Given))]),
        ];
    }
}
