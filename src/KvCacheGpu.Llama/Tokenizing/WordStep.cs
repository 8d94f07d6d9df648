namespace KvCacheGpu.Llama;

/// <summary>One step of cutting text into words, before letters are joined.</summary>
internal abstract class WordStep
{
    /// <summary>Cuts a piece of text into words, none of which is empty.</summary>
    /// <param name="piece">The piece, not empty.</param>
    /// <param name="first">True if nothing of the text comes before it.</param>
    /// <exception cref="LlamaFormatException">A pattern takes too long on this piece (E009).</exception>
    public abstract IEnumerable<string> Cut(string piece, bool first);
}

/// <summary>Cuts by a pattern: each match is a word.</summary>
/// <param name="pattern">The pattern.</param>
/// <param name="dropsOthers">True to drop the text between matches; false to make it a word of its own.</param>
internal sealed class SplitStep(WordPattern pattern, bool dropsOthers = false) : WordStep
{
    /// <inheritdoc/>
    public override IEnumerable<string> Cut(string piece, bool first) =>
        pattern.Cut(piece).Where(p => p.IsMatch || !dropsOthers).Select(p => piece[p.Start..p.End]);
}

/// <summary>Writes a word's bytes as the letters of <see cref="ByteAlphabet"/>; the last step of byte-level vocabularies.</summary>
/// <param name="addsSpace">True if a piece that does not start with a space gets one.</param>
/// <param name="pattern">The pattern that cuts the piece before; null if it stays whole.</param>
internal sealed class ByteLevelStep(bool addsSpace, WordPattern? pattern) : WordStep
{
    /// <inheritdoc/>
    public override IEnumerable<string> Cut(string piece, bool first)
    {
        string spaced = addsSpace && piece[0] != ' ' ? ' ' + piece : piece;
        return pattern is null ? [ByteAlphabet.Encode(spaced)] : pattern.Cut(spaced).Select(p => ByteAlphabet.Encode(spaced[p.Start..p.End]));
    }
}

/// <summary>Writes spaces as ▁, as SentencePiece does.</summary>
/// <param name="space">The letter for a space.</param>
/// <param name="addsSpace">True if a piece that does not start with a space gets one.</param>
/// <param name="onlyFirst">True if only the first piece of a text gets one.</param>
/// <param name="cuts">True if each space begins a word.</param>
internal sealed class SpaceStep(char space, bool addsSpace, bool onlyFirst, bool cuts) : WordStep
{
    /// <inheritdoc/>
    public override IEnumerable<string> Cut(string piece, bool first)
    {
        string written = piece.Replace(' ', space);
        written = addsSpace && (first || !onlyFirst) && written[0] != space ? space + written : written;
        return cuts ? Words(written) : [written];
    }

    private IEnumerable<string> Words(string written)
    {
        int start = 0;
        for (int i = 1; i <= written.Length; i++)
        {
            if (i == written.Length || written[i] == space)
            {
                yield return written[start..i];
                start = i;
            }
        }
    }
}
