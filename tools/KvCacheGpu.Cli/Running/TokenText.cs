using System.Globalization;
using System.Text;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>Writes tokens as they are generated: their text, or their ids if the model has no tokenizer.</summary>
internal sealed class TokenText(LlamaTokenizer? tokenizer, TextWriter output)
{
    // A character may span several tokens.
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private bool _begun;

    /// <summary>Writes one token, and flushes, because the reader waits for it.</summary>
    public void Write(int token)
    {
        if (tokenizer is null)
        {
            output.Write(_begun ? " " : string.Empty);
            output.Write(token.ToString(CultureInfo.InvariantCulture));
        }
        else if (!tokenizer.IsSpecial(token))
        {
            ReadOnlySpan<byte> bytes = tokenizer.Bytes(token);
            char[] chars = new char[Encoding.UTF8.GetMaxCharCount(bytes.Length)];
            output.Write(chars, 0, _decoder.GetChars(bytes, chars, flush: false));
        }

        _begun = true;
        output.Flush();
    }

    /// <summary>Ends the line.</summary>
    public void End() => output.WriteLine();
}
