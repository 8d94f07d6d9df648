namespace KvCacheGpu.Llama;

/// <summary>A vocabulary, and the way in which it spells words.</summary>
internal abstract class TextModel
{
    /// <summary>Ids by piece, written in the vocabulary's letters; without added tokens.</summary>
    public abstract IReadOnlyDictionary<string, int> Vocabulary { get; }

    /// <summary>Appends the tokens of a word.</summary>
    /// <param name="word">The word, not empty, in the vocabulary's letters.</param>
    /// <param name="ids">Receives the tokens.</param>
    /// <exception cref="ArgumentException">The vocabulary cannot spell it.</exception>
    public abstract void Encode(string word, List<int> ids);

    /// <summary>The bytes that a piece of the vocabulary stands for.</summary>
    public abstract byte[] Decode(string piece, int id);
}
