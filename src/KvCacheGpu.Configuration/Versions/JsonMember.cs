using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Configuration;

/// <summary>A member of a JSON object: where in the text its name and its value stand.</summary>
/// <param name="Name">Its name.</param>
/// <param name="NameStart">Place of the name's opening quote.</param>
/// <param name="ValueStart">Place of the value's first character.</param>
/// <param name="ValueEnd">Place behind its last.</param>
/// <param name="Value">The value, a string's without quotes.</param>
/// <param name="Members">An object's members; null for other values.</param>
internal sealed record JsonMember(string Name, int NameStart, int ValueStart, int ValueEnd, string Value, List<JsonMember>? Members)
{
    private static readonly JsonReaderOptions _options = new() { AllowTrailingCommas = true, CommentHandling = JsonCommentHandling.Skip, MaxDepth = 16 };

    /// <exception cref="KvConfigurationException">No JSON object, or a key twice (E003).</exception>
    public static List<JsonMember> Read(string path, string text)
    {
        int mark = text.StartsWith('\uFEFF') ? 1 : 0;
        byte[] bytes = Encoding.UTF8.GetBytes(text[mark..]);
        int[] places = Places(text, mark, bytes.Length);
        var reader = new Utf8JsonReader(bytes, _options);
        try
        {
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            {
                throw new KvConfigurationException($"{path}:1", "a JSON object", "something else");
            }

            int values = 0;
            List<JsonMember> root = ReadObject(ref reader, path, text, places, ref values);
            while (reader.Read())
            {
            }

            return root;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            string reason = error.Message.Split(". ")[0].Split(" LineNumber:")[0].TrimEnd('.');
            throw new KvConfigurationException($"{path}:{((error as JsonException)?.LineNumber ?? 0) + 1}", "JSON", reason, error);
        }
    }

    /// <summary>The white space before the name, if nothing else stands before it on its line.</summary>
    public string? Indent(string text)
    {
        int line = text.LastIndexOf('\n', Math.Max(0, NameStart - 1)) + 1;
        return line > 0 && string.IsNullOrWhiteSpace(text[line..NameStart]) ? text[line..NameStart] : null;
    }

    /// <summary>The place of the comma behind a value, remarks between them passed over; negative where there is none.</summary>
    public static int CommaAfter(string text, int place)
    {
        int at = SkipRemarks(text, place);
        return at < text.Length && text[at] == ',' ? at : -1;
    }

    /// <summary>The place of the comma before a name; negative where there is none.</summary>
    public static int CommaBefore(string text, int name)
    {
        // Read forwards from every comma: backwards, a remark cannot be told from what it remarks on.
        for (int at = name - 1; at >= 0; at--)
        {
            if (text[at] == ',' && SkipRemarks(text, at + 1) == name)
            {
                return at;
            }
        }

        return -1;
    }

    /// <summary>Where a line ends, if only remarks stand on it from here; else here.</summary>
    public static int EndOfRemarks(string text, int place)
    {
        int end = text.IndexOf('\n', place);
        end = end < 0 ? text.Length : end > 0 && text[end - 1] == '\r' ? end - 1 : end;
        return SkipRemarks(text, place) is var at && at >= end && text[place..end].Contains('/', StringComparison.Ordinal) ? end : place;
    }

    private static int SkipRemarks(string text, int at)
    {
        while (at < text.Length)
        {
            if (char.IsWhiteSpace(text[at]))
            {
                at++;
            }
            else if (string.CompareOrdinal(text, at, "//", 0, 2) == 0)
            {
                at = text.IndexOf('\n', at) is var end and >= 0 ? end + 1 : text.Length;
            }
            else if (string.CompareOrdinal(text, at, "/*", 0, 2) == 0)
            {
                at = text.IndexOf("*/", at + 2, StringComparison.Ordinal) is var end and >= 0 ? end + 2 : text.Length;
            }
            else
            {
                break;
            }
        }

        return at;
    }

    private static List<JsonMember> ReadObject(ref Utf8JsonReader reader, string path, string text, int[] places, ref int values)
    {
        var members = new List<JsonMember>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
        {
            string name = reader.GetString()!;
            int nameStart = places[reader.TokenStartIndex];
            if (++values > ConfigNode.MostValues)
            {
                throw ConfigNode.TooMany($"{path}:{TextFile.LineOf(text, nameStart)}: {name}");
            }

            if (!names.Add(name))
            {
                throw new KvConfigurationException($"{path}:{TextFile.LineOf(text, nameStart)}: {name}", "one of that key", "it twice");
            }

            reader.Read();
            int start = places[reader.TokenStartIndex];
            string value = reader.TokenType == JsonTokenType.String ? reader.GetString()! : string.Empty;
            bool isText = reader.TokenType == JsonTokenType.String;
            List<JsonMember>? inner = reader.TokenType == JsonTokenType.StartObject ? ReadObject(ref reader, path, text, places, ref values) : null;
            reader.Skip();
            int end = places[reader.BytesConsumed];
            members.Add(new JsonMember(name, nameStart, start, end, isText ? value : text[start..end], inner));
        }

        return members;
    }

    // Tokens are found by bytes, texts are cut by characters.
    private static int[] Places(string text, int mark, int bytes)
    {
        int[] places = new int[bytes + 1];
        int at = 0, place = mark;
        foreach (Rune rune in text[mark..].EnumerateRunes())
        {
            places.AsSpan(at, rune.Utf8SequenceLength).Fill(place);
            (at, place) = (at + rune.Utf8SequenceLength, place + rune.Utf16SequenceLength);
        }

        places[bytes] = text.Length;
        return places;
    }
}
