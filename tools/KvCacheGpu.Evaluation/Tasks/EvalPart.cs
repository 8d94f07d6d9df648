namespace KvCacheGpu.Evaluation;

/// <summary>The use of a part's tokens.</summary>
public enum EvalAct
{
    /// <summary>They are read in steps of many tokens, and stay.</summary>
    Read,

    /// <summary>They are written one by one, as decoding does, and stay.</summary>
    Write,

    /// <summary>They are run in one step and rolled back, so that the next part finds the sequence unchanged.</summary>
    Probe,
}

/// <summary>One part of the work on a sequence.</summary>
/// <param name="Act">The use of the tokens.</param>
/// <param name="Tokens">The tokens.</param>
/// <param name="Scored">
/// Number of tokens, counted from the end, that the model must predict, each from all before it; there must be one before the first. The last token of a probe
/// is only an answer, and is not run.
/// </param>
/// <param name="Label">The group of the scores within a task: a depth, a turn. Empty if there are no groups.</param>
public sealed record EvalPart(EvalAct Act, IReadOnlyList<int> Tokens, int Scored = 0, string Label = "");

/// <summary>One sequence of a task: the tokens that are read, written and asked, in order.</summary>
/// <param name="Parts">The parts.</param>
public sealed record EvalPrompt(IReadOnlyList<EvalPart> Parts)
{
    /// <summary>The most tokens of the sequence.</summary>
    public int MostTokens
    {
        get
        {
            (int length, int most) = (0, 0);
            foreach (EvalPart part in Parts)
            {
                most = Math.Max(most, length + part.Tokens.Count);
                length += part.Act == EvalAct.Probe ? 0 : part.Tokens.Count;
            }

            return most;
        }
    }

    /// <summary>Number of predicted tokens.</summary>
    public int Scored => Parts.Sum(p => p.Scored);
}
