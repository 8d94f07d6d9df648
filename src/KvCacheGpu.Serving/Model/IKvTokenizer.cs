namespace KvCacheGpu.Serving;

/// <summary>Text to tokens and back.</summary>
/// <remarks>Thread safety: members may be called from any thread at once.</remarks>
public interface IKvTokenizer
{
    /// <summary>The tokens of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="start">True to begin with the token that starts every text, if there is one. The text of a chat template holds it already.</param>
    /// <exception cref="ArgumentException">The vocabulary cannot spell the text.</exception>
    int[] Encode(string text, bool start);

    /// <summary>The UTF-8 bytes of one token; none for a token that stands for no text. A character may span several tokens.</summary>
    /// <param name="token">The token, below the vocabulary's size.</param>
    ReadOnlySpan<byte> Bytes(int token);
}
