namespace KvCacheGpu.Evaluation;

/// <summary>Held-out text, written token by token after a long passage: measures how well each token was predicted.</summary>
internal sealed class PerplexityTask : EvalTask
{
    public override string Name => "perplexity";

    public override string Summary => "held-out text, written token by token";

    public override bool HasAnswers => false;

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        int[] start = text.Start;
        int read = scale.Context - start.Length;
        int[] passage = text.Passage(random, read + scale.Written);
        return
        [
            new EvalPrompt(
            [
                new EvalPart(EvalAct.Read, [.. start, .. passage[..read]]),
                new EvalPart(EvalAct.Write, passage[read..], scale.Written),
            ]),
        ];
    }
}
