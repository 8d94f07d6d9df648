using System.Text;

namespace KvCacheGpu.Serving;

/// <summary>
/// The text of an answer as its tokens come. Bytes wait until they are a whole character, and characters wait while they could be the beginning of
/// a text that ends the answer.
/// </summary>
internal sealed class TextStream(IKvTokenizer tokenizer, IReadOnlyList<string> stops)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private readonly int _longest = stops.Count == 0 ? 0 : stops.Max(stop => stop.Length);
    private readonly StringBuilder _held = new();
    private char[] _characters = new char[64];

    /// <summary>True once a text that ends the answer has come; nothing more is taken from then on.</summary>
    public bool IsStopped { get; private set; }

    /// <summary>Takes a token.</summary>
    /// <returns>What may be shown now; often nothing.</returns>
    public string Add(int token) => IsStopped ? "" : Take(tokenizer.Bytes(token), flush: false);

    /// <summary>Takes the end of the answer: returns what was held back. Bytes that are no whole character become U+FFFD.</summary>
    public string End()
    {
        if (IsStopped)
        {
            return "";
        }

        string text = Take([], flush: true) + _held;
        _held.Clear();
        return text;
    }

    private string Take(ReadOnlySpan<byte> bytes, bool flush)
    {
        int most = _decoder.GetCharCount(bytes, flush);
        if (_characters.Length < most)
        {
            _characters = new char[most * 2];
        }

        int count = _decoder.GetChars(bytes, _characters, flush);
        _held.Append(_characters, 0, count);
        string held = _held.ToString();
        int end = FirstStop(held);
        if (end >= 0)
        {
            IsStopped = true;
            _held.Clear();
            return held[..end];
        }

        int shown = held.Length - Waiting(held);
        _held.Remove(0, shown);
        return held[..shown];
    }

    private int FirstStop(string text)
    {
        int first = -1;
        foreach (string stop in stops)
        {
            int place = text.IndexOf(stop, StringComparison.Ordinal);
            first = place >= 0 && (first < 0 || place < first) ? place : first;
        }

        return first;
    }

    // The longest end of the text with which a stop begins.
    private int Waiting(string text)
    {
        for (int length = Math.Min(_longest - 1, text.Length); length > 0; length--)
        {
            foreach (string stop in stops)
            {
                if (length < stop.Length && text.AsSpan(text.Length - length).SequenceEqual(stop.AsSpan(0, length)))
                {
                    return length;
                }
            }
        }

        return 0;
    }
}
