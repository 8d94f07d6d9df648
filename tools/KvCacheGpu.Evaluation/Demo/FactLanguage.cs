using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>States facts and asks for them in a model's tokens: <c>" Now the word" KEY VALUE "."</c> and <c>" What word" KEY</c>.</summary>
public sealed class FactLanguage
{
    /// <summary>Number of keys by which facts are named.</summary>
    public const int KeyWords = 128;

    // The demo model was trained with keys from the rarest words, and values from all words but the very rarest.
    private const int FirstValueWord = 64;

    private readonly int[] _say;
    private readonly int[] _ask;
    private readonly int[] _stop;
    private readonly int[] _words;

    private FactLanguage(LlamaTokenizer tokenizer, int bos, int[] words)
    {
        (Bos, _words) = (bos, words);
        _say = tokenizer.Encode(" Now the word", start: false);
        _ask = tokenizer.Encode(" What word", start: false);
        _stop = tokenizer.Encode(".", start: false);
    }

    /// <summary>The token that starts every text.</summary>
    public int Bos { get; }

    /// <summary>Words that name facts, one token each, the rarest first.</summary>
    public ReadOnlySpan<int> Keys => _words.AsSpan(0, KeyWords);

    /// <summary>Words that facts state, one token each.</summary>
    public ReadOnlySpan<int> Values => _words.AsSpan(FirstValueWord);

    /// <summary>The tokens that end a sentence.</summary>
    public ReadOnlySpan<int> Stop => _stop;

    /// <summary>Index of the key in a sentence.</summary>
    public int KeyOffset => _say.Length;

    /// <summary>Number of tokens of a sentence.</summary>
    public int SentenceTokens => _say.Length + 2 + _stop.Length;

    /// <summary>Finds a tokenizer's words.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="textIds">Tokens of a text from which the rarity of words is counted.</param>
    /// <exception cref="ArgumentException">The tokenizer has fewer than <see cref="KeyWords"/> words of one token, or no token that starts a text.</exception>
    public static FactLanguage Create(LlamaTokenizer tokenizer, ReadOnlySpan<int> textIds)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        int[] words = RarestWordsFirst(tokenizer, textIds.ToArray());
        if (words.Length < KeyWords || tokenizer.BosTokenId is not { } bos)
        {
            throw new ArgumentException(
                $"expected a tokenizer with a token that starts a text and {KeyWords} words of one token, got {words.Length} words", nameof(tokenizer));
        }

        return new FactLanguage(tokenizer, bos, words);
    }

    /// <summary>The sentence that states a fact.</summary>
    public int[] Sentence(int key, int value) => [.. _say, key, value, .. _stop];

    /// <summary>The question for a fact; the model's next token is its answer.</summary>
    public int[] Question(int key) => [.. _ask, key];

    /// <summary>An answer, with the end of its sentence.</summary>
    public int[] Answer(int value) => [value, .. _stop];

    // Words are tokens of a space and at least three lower-case letters. Of equally rare ones, the later merge (the higher id) counts as rarer.
    private static int[] RarestWordsFirst(LlamaTokenizer tokenizer, int[] textIds)
    {
        Dictionary<int, int> counts = textIds.CountBy(id => id).ToDictionary();
        return
        [
            .. tokenizer.Vocabulary
                .Where(w => w.Key.Length >= 4 && w.Key[0] is ('Ġ' or '▁') && w.Key.AsSpan(1).IndexOfAnyExceptInRange('a', 'z') < 0)
                .Select(w => w.Value)
                .OrderBy(id => counts.GetValueOrDefault(id))
                .ThenByDescending(id => id),
        ];
    }
}
