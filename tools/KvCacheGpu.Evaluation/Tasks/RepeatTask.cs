namespace KvCacheGpu.Evaluation;

/// <summary>A passage, another one, then the first again: a model that copies finds the passage in its cache.</summary>
internal sealed class RepeatTask : EvalTask
{
    private const int Passages = 3;

    public override string Name => "repeat";

    public override string Summary => "a passage that comes again after another one";

    public override bool HasAnswers => false;

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        int[] passage = text.Passage(random, scale.Tokens / Passages);
        int[] between = text.Passage(random, scale.Tokens - (2 * passage.Length) - text.Start.Length);
        return
        [
            new EvalPrompt(
            [
                new EvalPart(EvalAct.Read, [.. text.Start, .. passage, .. between]),
                new EvalPart(EvalAct.Read, passage, passage.Length),
            ]),
        ];
    }
}
