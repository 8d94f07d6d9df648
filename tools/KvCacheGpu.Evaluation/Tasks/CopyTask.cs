namespace KvCacheGpu.Evaluation;

/// <summary>
/// Segments of random tokens, each strewn several times over a text, that come once more: after its first tokens the rest of each can only be
/// copied. Several times, as the demo model does not find what it has seen once in a text; it was trained on segments that recur.
/// </summary>
internal sealed class CopyTask : EvalTask
{
    private const int SegmentTokens = 12;
    private const int Given = 5;
    private const int Recurrences = 6;

    public override string Name => "copy";

    public override string Summary => "segments of random tokens that come again";

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
