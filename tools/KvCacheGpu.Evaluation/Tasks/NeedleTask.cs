namespace KvCacheGpu.Evaluation;

/// <summary>Facts at set depths of documents of set lengths.</summary>
internal sealed class NeedleTask : EvalTask
{
    private static readonly double[] _depths = [0, .25, .5, .75, 1];

    public override string Name => "needle";

    public override string Summary => "facts at set depths of documents of several lengths";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random) =>
        [.. scale.Lengths.Select(length => Build(text, length, random))];

    private static EvalPrompt Build(EvalText text, int length, Random random)
    {
        (int Key, int Value)[] facts = text.Facts(random, _depths.Length);
        int[] document = text.Document(random, EvalScale.Quiet(length), [], [.. _depths.Zip(facts, (depth, fact) => (depth, Say(text, fact)))]);
        return new EvalPrompt(
            [new EvalPart(EvalAct.Read, document), .. _depths.Zip(facts, (depth, fact) => Ask(text, fact, $"{length} tokens, depth {Percent(depth)}"))]);
    }
}
