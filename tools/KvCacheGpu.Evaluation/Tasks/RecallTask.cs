namespace KvCacheGpu.Evaluation;

/// <summary>Facts in a document, asked for after it has been read: tokens are dropped before any question is known.</summary>
internal sealed class RecallTask : EvalTask
{
    public override string Name => "recall";

    public override string Summary => "facts of a document, asked after it was read and compressed";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        (int Key, int Value)[] facts = text.Facts(random, scale.Facts);
        int[] document = text.Document(random, EvalScale.Quiet(scale.Tokens), [], Strew(text, random, facts));
        return [new EvalPrompt([new EvalPart(EvalAct.Read, document), .. facts.Select(fact => Ask(text, fact))])];
    }
}
