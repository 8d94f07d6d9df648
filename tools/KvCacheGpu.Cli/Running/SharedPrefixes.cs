namespace KvCacheGpu.Cli;

/// <summary>Finds, for each prompt, the earlier prompt that begins with the same tokens, so that these are read and held once.</summary>
internal sealed class SharedPrefixes
{
    private readonly int[][] _prompts;
    private readonly int[] _elders;
    private readonly int[] _tokens;

    /// <summary>Compares prompts.</summary>
    /// <param name="prompts">The prompts: at least one, and none empty.</param>
    /// <param name="multiple">The number of shared tokens is a multiple of this.</param>
    public SharedPrefixes(int[][] prompts, int multiple)
    {
        (_prompts, _elders, _tokens) = (prompts, new int[prompts.Length], new int[prompts.Length]);
        for (int i = 0; i < prompts.Length; i++)
        {
            _elders[i] = -1;
            for (int elder = 0; elder < i; elder++)
            {
                // Each prompt computes at least its last token, from which the next one follows. Of several earlier prompts
                // that share as much, the first is taken, so that none shares fewer tokens with its elder than that one with its own.
                int most = Math.Min(prompts[elder].Length, prompts[i].Length) - 1;
                int common = prompts[elder].AsSpan(0, most).CommonPrefixLength(prompts[i]) / multiple * multiple;
                (_elders[i], _tokens[i]) = common > _tokens[i] ? (elder, common) : (_elders[i], _tokens[i]);
            }
        }
    }

    /// <summary>Number of prompts.</summary>
    public int Count => _prompts.Length;

    /// <summary>A prompt.</summary>
    public int[] Prompt(int index) => _prompts[index];

    /// <summary>Number of first tokens that a prompt shares with its elder.</summary>
    public int Tokens(int index) => _tokens[index];

    /// <summary>The prompts whose elder this one is, those that share the fewest tokens first.</summary>
    public IEnumerable<int> Heirs(int elder) => Enumerable.Range(0, Count).Where(i => _elders[i] == elder).OrderBy(i => _tokens[i]);

    /// <summary>Number of tokens for which a cache must have room, where shared ones count once.</summary>
    /// <param name="newTokens">Number of tokens that follow each prompt.</param>
    /// <param name="pageTokens">Tokens in a page.</param>
    public long Room(IReadOnlyList<int> newTokens, int pageTokens) =>
        Enumerable.Range(0, Count).Sum(i => (long)_prompts[i].Length + newTokens[i] - SurelyShared(_tokens[i], pageTokens));

    /// <summary>The least bytes of pages when every prompt has been continued, without the last token of each.</summary>
    public long LeastPageBytes(IReadOnlyList<int> newTokens, ContextPlan plan, int pageTokens) =>
        Enumerable.Range(0, Count).Sum(i => plan.PageBytes(_prompts[i].Length + newTokens[i] - 1 - (_tokens[i] / pageTokens * pageTokens)));

    /// <summary>Number of tokens of one step: the longest prompt, or the tokens of all prompts that are not shared if they are more.</summary>
    public int StepTokens(int most) =>
        (int)Math.Min(most, Math.Max(_prompts.Max(p => p.Length), Enumerable.Range(0, Count).Sum(i => (long)_prompts[i].Length - _tokens[i])));

    // Both prompts copy the page in which they begin to differ, while the shared one is still there. The full page before it may still be open, and then
    // each seals its own copy. So one page less is shared, and the number is negative if less than a page of tokens is shared.
    private static int SurelyShared(int tokens, int pageTokens) => tokens == 0 ? 0 : ((tokens / pageTokens) - 1) * pageTokens;
}
