namespace KvCacheGpu.Evaluation;

/// <summary>Running text, read in steps: measures the distance of the whole distribution of each next token from that of the full cache.</summary>
internal sealed class TextTask : EvalTask
{
    public override string Name => "text";

    public override string Summary => "running text, each token predicted from the right ones before it";

    public override bool HasAnswers => false;

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        int[] start = text.Start;
        int[] passage = text.Passage(random, scale.Tokens - start.Length);
        int lead = EvalScale.LeadTokens - start.Length;
        return
        [
            new EvalPrompt(
            [
                new EvalPart(EvalAct.Read, [.. start, .. passage[..lead]]),
                new EvalPart(EvalAct.Read, passage[lead..], passage.Length - lead),
            ]),
        ];
    }
}
