namespace KvCacheGpu.Llama;

/// <summary>One fact of a document, and how it is asked for.</summary>
/// <param name="Key">The word that names it, one token.</param>
/// <param name="Value">The word it says, one token: the right answer.</param>
/// <param name="Position">Where the document says so: the token of the key.</param>
/// <param name="Question">The tokens that ask; the model's next token is its answer.</param>
public sealed record DemoFact(int Key, int Value, int Position, IReadOnlyList<int> Question);

/// <summary>
/// A document of held-out text with facts strewn into it: <c>" Now the word" KEY VALUE "."</c>, asked later by
/// <c>" What word" KEY</c>. The demo model was trained to answer these; what a cache loses, it can no longer answer.
/// </summary>
public sealed class DemoFacts
{
    private DemoFacts(int[] document, DemoFact[] facts) => (Document, Facts) = (document, facts);

    /// <summary>The tokens, the one that starts every text first.</summary>
    public IReadOnlyList<int> Document { get; }

    /// <summary>The facts, in the order in which the document says them.</summary>
    public IReadOnlyList<DemoFact> Facts { get; }

    /// <summary>Writes a document.</summary>
    /// <param name="tokenizer">The demo model's tokenizer.</param>
    /// <param name="text">The text that the facts are strewn into, long enough.</param>
    /// <param name="tokens">Tokens of the document, facts included.</param>
    /// <param name="facts">Facts, 0..128, each of its own key.</param>
    /// <param name="seed">The same seed gives the same document.</param>
    /// <exception cref="ArgumentException">The text is too short, the tokens cannot hold the facts, or it is another model's tokenizer.</exception>
    public static DemoFacts Create(LlamaTokenizer tokenizer, string text, int tokens, int facts, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentOutOfRangeException.ThrowIfNegative(facts);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(facts, FactLanguage.KeyWords);
        int[] textIds = tokenizer.Encode(text, start: false);
        FactLanguage language = FactLanguage.Create(tokenizer, textIds);
        int filler = tokens - 1 - (facts * language.SentenceTokens);
        if (filler < 0 || filler > textIds.Length)
        {
            throw new ArgumentException($"expected {tokens} tokens to hold {facts} facts and at most {textIds.Length} tokens of text", nameof(tokens));
        }

        Random random = new(seed);
        int[] keys = language.Keys.ToArray();
        random.Shuffle(keys);
        int[] places = [.. Enumerable.Range(0, facts).Select(_ => random.Next(filler + 1)).Order()];
        int start = random.Next(textIds.Length - filler + 1);
        List<int> document = [language.Bos];
        DemoFact[] made = new DemoFact[facts];
        int taken = 0;
        for (int i = 0; i < facts; i++)
        {
            document.AddRange(textIds.AsSpan(start + taken, places[i] - taken));
            taken = places[i];
            int value = language.Values[random.Next(language.Values.Length)];
            made[i] = new DemoFact(keys[i], value, document.Count + language.KeyOffset, language.Question(keys[i]));
            document.AddRange(language.Sentence(keys[i], value));
        }

        document.AddRange(textIds.AsSpan(start + taken, filler - taken));
        return new DemoFacts([.. document], made);
    }
}
