namespace KvCacheGpu.Evaluation;

/// <summary>
/// Short passages in one sequence, each begun by the token that starts texts, as training packs them: keys of such starts, which attention treats
/// unlike all others, then lie in many pages.
/// </summary>
internal sealed class PackedTask : EvalTask
{
    private const int LeastTokens = 32;
    private const int MostTokens = 160;

    public override string Name => "packed";

    public override string Summary => "short passages one after the other, each with a start of its own";

    public override bool HasAnswers => false;

    private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
    {
        List<EvalPart> parts = [];
        int length = 0;
        while (scale.Tokens - length >= LeastTokens)
        {
            int tokens = Math.Min(random.Next(LeastTokens, MostTokens + 1), scale.Tokens - length);
            int[] passage = [.. text.Start, .. text.Passage(random, tokens - text.Start.Length)];

            // The first token of a passage follows from nothing that was before.
            parts.Add(new EvalPart(EvalAct.Read, passage, length < EvalScale.LeadTokens ? 0 : tokens - 1));
            length += tokens;
        }

        return [new EvalPrompt(parts)];
    }
}
