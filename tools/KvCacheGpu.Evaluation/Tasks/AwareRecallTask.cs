namespace KvCacheGpu.Evaluation;

/// <summary>Recall with questions that are known first: they come before the document, so that attention can mark their answers.</summary>
internal sealed class AwareRecallTask : EvalTask
{
    private const int AskedShare = 2;

    public override string Name => "recall-aware";

    public override string Summary => "the same, with the questions also put before the document";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        (int Key, int Value)[] facts = text.Facts(random, scale.Facts);
        (int Key, int Value)[] asked = facts[..(facts.Length / AskedShare)];
        int[] opening = [.. asked.SelectMany(fact => (int[])[.. text.Language.Question(fact.Key), .. text.Language.Stop])];
        int[] document = text.Document(random, EvalScale.Quiet(scale.Tokens), opening, Strew(text, random, facts));
        return [new EvalPrompt([new EvalPart(EvalAct.Read, document), .. asked.Select(fact => Ask(text, fact))])];
    }
}
