namespace KvCacheGpu.Cli;

/// <summary>Which prompt begins with tokens of which before it: what is then read once, and held once.</summary>
internal sealed class SharedPrefixes
{
    private readonly int[][] _prompts;
    private readonly int[] _elders;
    private readonly int[] _tokens;

    /// <summary>Compares prompts.</summary>
    /// <param name="prompts">The prompts, at least one, none empty.</param>
    /// <param name="multiple">Shared tokens come in multiples of this.</param>
    public SharedPrefixes(int[][] prompts, int multiple)
    {
        (_prompts, _elders, _tokens) = (prompts, new int[prompts.Length], new int[prompts.Length]);
        for (int i = 0; i < prompts.Length; i++)
        {
            _elders[i] = -1;
            for (int elder = 0; elder < i; elder++)
            {
                // Each computes one token at least: what follows a prompt is known from its last one. Among equals the
                // first is taken, so that nobody shares less with an elder than that elder does with its own.
                int most = Math.Min(prompts[elder].Length, prompts[i].Length) - 1;
                int common = prompts[elder].AsSpan(0, most).CommonPrefixLength(prompts[i]) / multiple * multiple;
                (_elders[i], _tokens[i]) = common > _tokens[i] ? (elder, common) : (_elders[i], _tokens[i]);
            }
        }
    }

    /// <summary>Prompts.</summary>
    public int Count => _prompts.Length;

    /// <summary>A prompt.</summary>
    public int[] Prompt(int index) => _prompts[index];

    /// <summary>How many tokens a prompt begins with that one before it begins with too.</summary>
    public int Tokens(int index) => _tokens[index];

    /// <summary>The prompts that begin like this one and like none before it, those that part first in front.</summary>
    public IEnumerable<int> Heirs(int elder) => Enumerable.Range(0, Count).Where(i => _elders[i] == elder).OrderBy(i => _tokens[i]);

    /// <summary>Tokens that a cache must have room for, shared ones once.</summary>
    /// <param name="newTokens">Tokens that follow each prompt.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    public long Room(IReadOnlyList<int> newTokens, int pageTokens) =>
        Enumerable.Range(0, Count).Sum(i => (long)_prompts[i].Length + newTokens[i] - SurelyShared(_tokens[i], pageTokens));

    /// <summary>Bytes that pages take at least when every prompt has been continued, but for the last token of each.</summary>
    public long LeastPageBytes(IReadOnlyList<int> newTokens, ContextPlan plan, int pageTokens) =>
        Enumerable.Range(0, Count).Sum(i => plan.PageBytes(_prompts[i].Length + newTokens[i] - 1 - (_tokens[i] / pageTokens * pageTokens)));

    /// <summary>Tokens of one step: the longest prompt, and what all of them read of their own where it is more.</summary>
    public int StepTokens(int most) =>
        (int)Math.Min(most, Math.Max(_prompts.Max(p => p.Length), Enumerable.Range(0, Count).Sum(i => (long)_prompts[i].Length - _tokens[i])));

    // The page where two part is copied by both while it is still there, and the full one before it may be open and then sealed by
    // each for itself: a page more than what differs, which makes a negative number of less than a page of shared tokens.
    private static int SurelyShared(int tokens, int pageTokens) => tokens == 0 ? 0 : ((tokens / pageTokens) - 1) * pageTokens;
}
