namespace KvCacheGpu.Evaluation;

/// <summary>What is done with a part's tokens.</summary>
public enum EvalAct
{
    /// <summary>They are read in steps of many tokens, and stay.</summary>
    Read,

    /// <summary>They are written one by one, as decoding does, and stay.</summary>
    Write,

    /// <summary>They are asked in one step and taken back: what comes after finds the sequence as it was.</summary>
    Probe,
}

/// <summary>One thing done to a sequence.</summary>
/// <param name="Act">What is done.</param>
/// <param name="Tokens">The tokens.</param>
/// <param name="Scored">
/// How many of them, counted from the end, the model must foresee, each after all before it. The last token of a probe is only an answer: it is not run.
/// </param>
/// <param name="Label">What the scores are told apart by within a task: a depth, a turn. Empty where nothing is.</param>
public sealed record EvalPart(EvalAct Act, IReadOnlyList<int> Tokens, int Scored = 0, string Label = "");

/// <summary>One sequence of a task: what is read, written and asked, in order.</summary>
/// <param name="Parts">The parts.</param>
public sealed record EvalPrompt(IReadOnlyList<EvalPart> Parts)
{
    /// <summary>The most tokens that the sequence reaches.</summary>
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

    /// <summary>Tokens that are foreseen.</summary>
    public int Scored => Parts.Sum(p => p.Scored);
}
