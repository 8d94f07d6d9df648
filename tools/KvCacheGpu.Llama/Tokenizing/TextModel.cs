namespace KvCacheGpu.Llama;

/// <summary>How a vocabulary cuts text into its pieces and spells them, whichever files it came in.</summary>
internal abstract class TextModel
{
    /// <summary>Ids by piece, as the vocabulary writes them; added tokens included.</summary>
    public abstract IReadOnlyDictionary<string, int> Vocabulary { get; }

    /// <summary>Whether a text's first token starts with a space that the text does not have.</summary>
    public virtual bool AddsSpace => false;

    /// <summary>The tokens of a text without added tokens.</summary>
    /// <param name="text">The text, not empty.</param>
    /// <param name="first">Whether nothing of the text stands before it.</param>
    /// <exception cref="ArgumentException">The vocabulary cannot spell it.</exception>
    public abstract IReadOnlyList<int> Encode(string text, bool first);

    /// <summary>The bytes that a piece of the vocabulary stands for.</summary>
    public abstract byte[] Decode(string piece, int id);
}
