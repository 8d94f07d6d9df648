using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// Text in Unicode's form C, as some vocabularies were trained on. A program without ICU (invariant globalization) cannot compose: there,
/// text that is not composed already is refused, as its tokens would be others than the model knows.
/// </summary>
internal static class ComposedText
{
    // Second letters that form C joins to the first, beyond the ranges below: Arabic, Indic scripts, Burmese.
    private const string Pairs =
        "\u0627\u0653\u0627\u0654\u0627\u0655\u0648\u0654\u064a\u0654\u06c1\u0654\u06d2\u0654\u06d5\u0654\u0928\u093c\u0930\u093c\u0933\u093c"
        + "\u09c7\u09be\u09c7\u09d7\u0b47\u0b56\u0b47\u0b3e\u0b47\u0b57\u0b92\u0bd7\u0bc6\u0bbe\u0bc6\u0bd7\u0bc7\u0bbe\u0c46\u0c56\u0cbf\u0cd5"
        + "\u0cc6\u0cc2\u0cc6\u0cd5\u0cc6\u0cd6\u0cca\u0cd5\u0d46\u0d3e\u0d46\u0d57\u0d47\u0d3e\u0dd9\u0dca\u0dd9\u0dcf\u0dd9\u0ddf\u0ddc\u0dca\u1025\u102e";

    private static readonly bool HasIcu = "e\u0301".Normalize(NormalizationForm.FormC).Length == 1;

    /// <summary>The text in form C.</summary>
    /// <exception cref="ArgumentException">It is not composed, and this program cannot compose.</exception>
    public static string Of(string text)
    {
        if (HasIcu)
        {
            return text.Normalize(NormalizationForm.FormC);
        }

        for (int i = 0; i < text.Length; i++)
        {
            if (IsChanged(i > 0 ? text[i - 1] : ' ', text[i]))
            {
                throw new ArgumentException(
                    $"expected text in Unicode's form C, as this program runs without ICU, got U+{(int)text[i]:X4} at {i}", nameof(text));
            }
        }

        return text;
    }

    // Marks of Latin, Greek and Cyrillic, of kana and Hangul; letters that have another name; pairs.
    private static bool IsChanged(char before, char c)
    {
        switch (c)
        {
            case < '\u0300':
                return false;
            case <= '\u036f' or '\u3099' or '\u309a':
            case (>= '\u1161' and <= '\u1175') or (>= '\u11a8' and <= '\u11c2'):
            case (>= '\u0958' and <= '\u095f') or '\u09dc' or '\u09dd' or '\u09df':
            case '\u2126' or '\u212a' or '\u212b' or (>= '\uf900' and <= '\ufaff'):
                return true;
            default:
                for (int i = 0; i < Pairs.Length; i += 2)
                {
                    if (Pairs[i] == before && Pairs[i + 1] == c)
                    {
                        return true;
                    }
                }

                return false;
        }
    }
}
