using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>One fact of a document, and the question for it.</summary>
/// <param name="Key">The word that names it, one token.</param>
/// <param name="Value">The word that it states, one token: the right answer.</param>
/// <param name="Position">The position of the key in the document.</param>
/// <param name="Question">The tokens of the question; the model's next token is its answer.</param>
public sealed record DemoFact(int Key, int Value, int Position, IReadOnlyList<int> Question);

/// <summary>
/// A document of held-out text with facts inserted at several places: <c>" Now the word" KEY VALUE "."</c>, asked later by
/// <c>" What word" KEY</c>. The demo model was trained to answer these. It can no longer answer a fact that the cache has lost.
/// </summary>
public sealed class DemoFacts
{
    private DemoFacts(int[] document, DemoFact[] facts) => (Document, Facts) = (document, facts);

    /// <summary>The tokens, beginning with the one that starts every text.</summary>
    public IReadOnlyList<int> Document { get; }

    /// <summary>The facts, in the order in which the document states them.</summary>
    public IReadOnlyList<DemoFact> Facts { get; }

    /// <summary>Makes a document.</summary>
    /// <param name="tokenizer">The demo model's tokenizer.</param>
    /// <param name="text">The text into which the facts are inserted. It must be long enough.</param>
    /// <param name="tokens">Number of tokens of the document, facts included.</param>
    /// <param name="facts">Number of facts, 0..128, each with a key of its own.</param>
    /// <param name="seed">The same seed gives the same document.</param>
    /// <exception cref="ArgumentException">The text is too short, the tokens cannot hold the facts, or the tokenizer is another model's.</exception>
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
