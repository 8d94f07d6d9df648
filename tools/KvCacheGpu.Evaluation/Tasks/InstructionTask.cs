namespace KvCacheGpu.Evaluation;

/// <summary>
/// Rules are stated in the first sentences (a key and its word), and asked for many times later. The demo model can follow only this kind of
/// instruction: the word with which it must answer a key whenever it is asked.
/// </summary>
internal sealed class InstructionTask : EvalTask
{
    private const int Rules = 4;
    private const int Calls = 4;

    public override string Name => "instruction";

    public override string Summary => "rules of the first sentences, called for again and again further down";

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        (int Key, int Value)[] rules = text.Facts(random, Rules);
        int[] opening = [.. rules.SelectMany(rule => Say(text, rule))];
        int[] document = text.Document(random, EvalScale.Quiet(scale.Tokens), opening);
        List<EvalPart> parts = [];
        int read = 0;
        for (int call = 1; call <= Calls; call++)
        {
            int end = EvalScale.Quiet(document.Length * call / Calls);
            parts.Add(new EvalPart(EvalAct.Read, document[read..end]));
            parts.AddRange(rules.Select(rule => Ask(text, rule, $"after {Percent((double)call / Calls)}")));
            read = end;
        }

        return [new EvalPrompt(parts)];
    }
}
