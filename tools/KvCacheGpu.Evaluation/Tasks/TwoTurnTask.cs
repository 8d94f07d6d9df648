namespace KvCacheGpu.Evaluation;

/// <summary>Half of the facts are asked for and answered in writing; then the other half, for which nobody has asked before.</summary>
internal sealed class TwoTurnTask : EvalTask
{
    private const int FirstTurnShare = 2;

    public override string Name => "two-turn";

    public override string Summary => "facts asked after others were asked and answered in writing";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        (int Key, int Value)[] facts = text.Facts(random, scale.Facts);
        (int Key, int Value)[] first = facts[..(facts.Length / FirstTurnShare)];
        int[] turn = [.. first.SelectMany(fact => (int[])[.. text.Language.Question(fact.Key), .. text.Language.Answer(fact.Value)])];
        int read = scale.Tokens - turn.Length - EvalScale.PageTokens;
        int[] document = text.Document(random, read, [], Strew(text, random, facts));
        int[] rest = text.Passage(random, EvalScale.Quiet(scale.Tokens) - read - turn.Length);
        return
        [
            new EvalPrompt(
            [
                new EvalPart(EvalAct.Read, document),
                new EvalPart(EvalAct.Write, [.. turn, .. rest]),
                .. facts[first.Length..].Select(fact => Ask(text, fact)),
            ]),
        ];
    }
}
