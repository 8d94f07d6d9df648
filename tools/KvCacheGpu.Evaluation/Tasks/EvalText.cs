using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>A text in a model's tokens, and the words with which facts are stated: the material of prompts.</summary>
public sealed class EvalText
{
    private readonly int[] _ids;
    private readonly int[] _vocabulary;
    private readonly FactLanguage? _language;

    private EvalText(int[] ids, int[] vocabulary, int? bos, FactLanguage? language) =>
        (_ids, _vocabulary, _language, Start) = (ids, vocabulary, language, bos is { } id ? [id] : []);

    /// <summary>The sentences and questions of facts.</summary>
    /// <exception cref="InvalidOperationException">Facts cannot be stated (<see cref="FactsRefusal"/>).</exception>
    public FactLanguage Language => _language ?? throw new InvalidOperationException(FactsRefusal);

    /// <summary>The reason why no facts can be stated in the model's tokens; null if they can.</summary>
    public string? FactsRefusal { get; private init; }

    /// <summary>The token that starts every text; none if the model has no such token.</summary>
    public int[] Start { get; }

    /// <summary>Number of tokens of the text.</summary>
    public int Length => _ids.Length;

    /// <summary>Reads a text.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="text">Text held out from the model's training.</param>
    /// <exception cref="ArgumentException">The text has a character that the tokenizer does not know.</exception>
    public static EvalText Create(LlamaTokenizer tokenizer, string text)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        int[] ids = tokenizer.Encode(text, start: false);
        int[] vocabulary = [.. tokenizer.Vocabulary.Values.Where(id => !tokenizer.IsSpecial(id)).Order()];
        try
        {
            return new EvalText(ids, vocabulary, tokenizer.BosTokenId, FactLanguage.Create(tokenizer, ids));
        }
        catch (ArgumentException e)
        {
            return new EvalText(ids, vocabulary, tokenizer.BosTokenId, null) { FactsRefusal = e.Message };
        }
    }

    /// <summary>A random passage of the text.</summary>
    /// <exception cref="ArgumentException">The text is shorter.</exception>
    public int[] Passage(Random random, int tokens)
    {
        ArgumentNullException.ThrowIfNull(random);
        if (tokens > _ids.Length || tokens < 0)
        {
            throw new ArgumentException($"expected 0..{_ids.Length} tokens of text, got {tokens}", nameof(tokens));
        }

        int start = random.Next(_ids.Length - tokens + 1);
        return _ids[start..(start + tokens)];
    }

    /// <summary>Random tokens of the vocabulary, all equally likely, which make no text.</summary>
    public int[] Scatter(Random random, int tokens)
    {
        ArgumentNullException.ThrowIfNull(random);
        return random.GetItems(_vocabulary, tokens);
    }

    /// <summary>Facts with different keys, and their values.</summary>
    public (int Key, int Value)[] Facts(Random random, int count)
    {
        ArgumentNullException.ThrowIfNull(random);
        int[] keys = Language.Keys.ToArray();
        random.Shuffle(keys);
        int[] values = Language.Values.ToArray();
        return [.. keys.Take(count).Select(key => (key, values[random.Next(values.Length)]))];
    }

    /// <summary>A document: the token that starts a text, an opening, then a passage with sentences inserted.</summary>
    /// <param name="random">Chooses the passage.</param>
    /// <param name="tokens">Number of tokens of the document.</param>
    /// <param name="opening">The tokens with which it begins.</param>
    /// <param name="strewn">Sentences, and the depth of each in the passage, 0..1.</param>
    /// <exception cref="ArgumentException">The tokens do not hold the sentences, or the text does not fill the tokens.</exception>
    public int[] Document(Random random, int tokens, IReadOnlyList<int> opening, params ReadOnlySpan<(double Depth, int[] Sentence)> strewn)
    {
        ArgumentNullException.ThrowIfNull(opening);
        (double Depth, int[] Sentence)[] ordered = [.. strewn.ToArray().OrderBy(s => s.Depth)];
        int[] passage = Passage(random, tokens - Start.Length - opening.Count - ordered.Sum(s => s.Sentence.Length));
        List<int> document = [.. Start, .. opening];
        int taken = 0;
        foreach ((double depth, int[] sentence) in ordered)
        {
            int place = (int)Math.Round(depth * passage.Length);
            document.AddRange(passage.AsSpan(taken, place - taken));
            document.AddRange(sentence);
            taken = place;
        }

        document.AddRange(passage.AsSpan(taken));
        return [.. document];
    }
}
