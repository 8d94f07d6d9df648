using System.Runtime.InteropServices;

namespace KvCacheGpu.Serving;

/// <summary>
/// Guesses the next tokens of a text that repeats itself: those that followed where its last tokens came before (prompt look-up decoding, Saxena 2023).
/// </summary>
internal static class PromptLookup
{
    private const int LongestMatch = 3;

    /// <summary>Guesses.</summary>
    /// <param name="tokens">All tokens so far.</param>
    /// <param name="draft">Receives the guesses; as many as its length at most.</param>
    /// <returns>Number of guesses, often 0.</returns>
    public static int Guess(List<int> tokens, Span<int> draft)
    {
        ReadOnlySpan<int> all = CollectionsMarshal.AsSpan(tokens);
        for (int length = Math.Min(LongestMatch, all.Length - 1); length > 0 && draft.Length > 0; length--)
        {
            // The last place but the end itself: what came lately says most of what comes now.
            int place = all[..^1].LastIndexOf(all[^length..]);
            if (place >= 0)
            {
                ReadOnlySpan<int> follows = all[(place + length)..];
                int count = Math.Min(follows.Length, draft.Length);
                follows[..count].CopyTo(draft);
                return count;
            }
        }

        return 0;
    }
}
