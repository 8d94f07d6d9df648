using System.Text;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Writes tokens and their probabilities as OpenAI does.</summary>
internal sealed class AnswerTokens(KvServedModel model)
{
    // JSON has no infinity.
    private const double Least = -9999;

    /// <summary>The text of a token alone; U+FFFD for bytes that are no whole character.</summary>
    public string TextOf(int token) => Encoding.UTF8.GetString(BytesOf(token));

    /// <summary>One token of a chat answer; null for one that only ends it.</summary>
    public ChatToken? Chat(KvLogprobs? logprobs) =>
        logprobs is null || IsEnd(logprobs.Chosen.Token) ? null : Chat(logprobs.Chosen) with { TopLogprobs = [.. logprobs.Top.Select(Chat)] };

    /// <summary>Tokens of a completion; null without any.</summary>
    /// <param name="all">The tokens.</param>
    /// <param name="offset">Characters before them.</param>
    public CompletionLogprobs Completion(IEnumerable<KvLogprobs> all, int offset = 0)
    {
        List<string> tokens = [];
        List<double> chosen = [];
        List<IReadOnlyDictionary<string, double>> top = [];
        List<int> offsets = [];
        foreach (KvLogprobs one in all.Where(one => !IsEnd(one.Chosen.Token)))
        {
            string text = TextOf(one.Chosen.Token);
            tokens.Add(text);
            chosen.Add(Shown(one.Chosen.Logprob));
            offsets.Add(offset);
            offset += text.Length;

            // Several tokens may have one text: the most likely one counts.
            Dictionary<string, double> best = [];
            foreach (KvTokenLogprob other in one.Top)
            {
                best.TryAdd(TextOf(other.Token), Shown(other.Logprob));
            }

            top.Add(best);
        }

        return new CompletionLogprobs(tokens, chosen, top, offsets);
    }

    private ChatToken Chat(KvTokenLogprob one) => new(TextOf(one.Token), Shown(one.Logprob), [.. BytesOf(one.Token).Select(b => (int)b)]);

    private byte[] BytesOf(int token) => model.Tokenizer is { } tokenizer ? tokenizer.Bytes(token).ToArray() : [];

    private bool IsEnd(int token) => model.Model.EndTokens.Contains(token);

    private static double Shown(double logprob) => Math.Max(logprob, Least);
}
