using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// Converts text to Unicode's form C, with which some vocabularies were trained. It has a table of its own, because a program with invariant
/// globalization has no ICU, and one with ICU could give other tokens on another machine.
/// </summary>
internal static class ComposedText
{
    // The first code point that form C may change; every code point before it stays as it is.
    private const char FirstMark = '\u0300';

    // Hangul syllables are not in the table, because they are computed from their parts.
    private const int Syllables = 0xac00;
    private const int Leads = 0x1100;
    private const int Vowels = 0x1161;
    private const int BeforeTrails = 0x11a7;
    private const int LeadCount = 19;
    private const int VowelCount = 21;
    private const int TrailCount = 28;

    private static readonly Lazy<Tables> Data = new(Tables.Read);

    /// <summary>The text in form C. A surrogate without its other half stays as it is.</summary>
    public static string Of(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange(FirstMark, '\uffff'))
        {
            return text;
        }

        List<(int Code, byte Class)> letters = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            bool isPair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            Decompose(isPair ? char.ConvertToUtf32(text[i], text[++i]) : text[i], letters);
        }

        Order(letters);
        return Compose(letters);
    }

    private static void Decompose(int code, List<(int Code, byte Class)> letters)
    {
        int syllable = code - Syllables;
        if (syllable is >= 0 and < LeadCount * VowelCount * TrailCount)
        {
            letters.Add((Leads + (syllable / (VowelCount * TrailCount)), 0));
            letters.Add((Vowels + (syllable / TrailCount % VowelCount), 0));
            if (syllable % TrailCount > 0)
            {
                letters.Add((BeforeTrails + (syllable % TrailCount), 0));
            }
        }
        else if (Data.Value.Parts.TryGetValue(code, out (int First, int Second) parts))
        {
            Decompose(parts.First, letters);
            if (parts.Second != 0)
            {
                Decompose(parts.Second, letters);
            }
        }
        else
        {
            letters.Add((code, Data.Value.Classes.GetValueOrDefault(code)));
        }
    }

    // Marks are sorted by class, and those of one class keep their order. OrderBy is stable, and does not take quadratic time if there are many marks.
    private static void Order(List<(int Code, byte Class)> letters)
    {
        for (int start = 0; start < letters.Count; start++)
        {
            int end = start;
            bool isOrdered = true;
            for (; end < letters.Count && letters[end].Class != 0; end++)
            {
                isOrdered &= end == start || letters[end - 1].Class <= letters[end].Class;
            }

            if (!isOrdered)
            {
                (int Code, byte Class)[] ordered = [.. letters.GetRange(start, end - start).OrderBy(l => l.Class)];
                ordered.CopyTo(CollectionsMarshal.AsSpan(letters)[start..]);
            }

            start = end;
        }
    }

    private static string Compose(List<(int Code, byte Class)> letters)
    {
        int kept = 0;
        int starter = -1;
        int between = -1;
        for (int next = 0; next < letters.Count; next++)
        {
            (int code, byte rank) = letters[next];

            // A mark joins the letter before it unless another mark of its class, or a letter of class 0, is between them.
            if (starter >= 0 && between < rank && Join(letters[starter].Code, code) is > 0 and int joined)
            {
                letters[starter] = (joined, 0);
                continue;
            }

            (starter, between) = rank == 0 ? (kept, -1) : (starter, rank);
            letters[kept++] = (code, rank);
        }

        StringBuilder text = new(kept);
        foreach ((int code, _) in letters.Take(kept))
        {
            // ConvertFromUtf32 does not take a lone surrogate.
            _ = code <= char.MaxValue ? text.Append((char)code) : text.Append(char.ConvertFromUtf32(code));
        }

        return text.ToString();
    }

    private static int Join(int first, int second)
    {
        if (first - Leads is >= 0 and < LeadCount and int lead && second - Vowels is >= 0 and < VowelCount and int vowel)
        {
            return Syllables + (((lead * VowelCount) + vowel) * TrailCount);
        }

        if (first - Syllables is >= 0 and < LeadCount * VowelCount * TrailCount and int syllable && syllable % TrailCount == 0
            && second - BeforeTrails is > 0 and < TrailCount and int trail)
        {
            return first + trail;
        }

        return Data.Value.Wholes.GetValueOrDefault((first, second));
    }

    private sealed record Tables(
        Dictionary<int, byte> Classes, Dictionary<int, (int First, int Second)> Parts, Dictionary<(int First, int Second), int> Wholes)
    {
        public static Tables Read()
        {
            Tables tables = new([], [], []);
            using StreamReader reader = new(typeof(ComposedText).Assembly.GetManifestResourceStream("Composition.txt")!);
            while (reader.ReadLine() is { } line)
            {
                string[] fields = line.Split(' ');
                switch (line[0])
                {
                    case '#':
                        break;
                    case '=':
                        tables.AddClass(byte.Parse(fields[0].AsSpan(1), CultureInfo.InvariantCulture), fields[1..]);
                        break;
                    default:
                        tables.AddParts(Code(fields[0]), Code(fields[1]), fields.Length > 2 ? Code(fields[2]) : 0, fields[^1] != "!");
                        break;
                }
            }

            return tables;
        }

        private static int Code(ReadOnlySpan<char> text) => int.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

        private void AddClass(byte rank, string[] ranges)
        {
            foreach (string range in ranges)
            {
                int dash = range.IndexOf('-', StringComparison.Ordinal);
                int last = Code(range.AsSpan(dash + 1));
                for (int code = dash < 0 ? last : Code(range.AsSpan(0, dash)); code <= last; code++)
                {
                    Classes.Add(code, rank);
                }
            }
        }

        private void AddParts(int whole, int first, int second, bool isJoined)
        {
            Parts.Add(whole, (first, second));
            if (second != 0 && isJoined)
            {
                Wholes.Add((first, second), whole);
            }
        }
    }
}
