using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Configuration;

/// <summary>Reads JSON with the line and the place of each name and value. Comments and trailing commas are taken; anything else that is no JSON is refused.</summary>
internal ref struct JsonNodes
{
    private const char Mark = '\uFEFF';

    private readonly SourceText _source;
    private readonly ReadOnlySpan<byte> _bytes;
    private Utf8JsonReader _reader;
    private string? _key;
    private int _line = 1;
    private int _place;
    private int _counted;
    private int _values;

    private JsonNodes(SourceText source, ReadOnlySpan<byte> bytes)
    {
        _source = source;
        _bytes = bytes;
        _place = source.Text.Length - source.Text.TrimStart(Mark).Length;
        _reader = new Utf8JsonReader(bytes, new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, MaxDepth = ConfigNode.MostDepth });
    }

    /// <summary>Reads a document.</summary>
    /// <exception cref="KvConfigurationException">E003: with the line, and the key where there is one.</exception>
    public static ConfigNode Parse(SourceText source)
    {
        JsonNodes text = new(source, Encoding.UTF8.GetBytes(source.Text.TrimStart(Mark)));
        return text.Document();
    }

    private ConfigNode Document()
    {
        try
        {
            _reader.Read();
            ConfigNode root = Value();
            while (_reader.Read())
            {
            }

            return root;
        }
        catch (JsonException error)
        {
            throw new KvConfigurationException(_source.At(1 + (int)(error.LineNumber ?? 0), _key), "JSON", Reason(error), error);
        }
        catch (InvalidOperationException error)
        {
            throw new KvConfigurationException(_source.At(Line(), _key), "JSON", "an escape that is no character", error);
        }
    }

    private ConfigNode Value()
    {
        (int line, int start) = (Line(), _place);
        ConfigNode node = Content(line);
        Advance((int)_reader.BytesConsumed);
        return node with { Place = new TextPlace(start, _place) };
    }

    private ConfigNode Content(int line)
    {
        if (++_values > ConfigNode.MostValues)
        {
            throw ConfigNode.TooMany(_source.At(line, _key));
        }

        switch (_reader.TokenType)
        {
            case JsonTokenType.StartObject:
                MemberList members = new(_source);
                while (_reader.Read() && _reader.TokenType != JsonTokenType.EndObject)
                {
                    (string name, int at, int start) = (_reader.GetString()!, Line(), _place);
                    Advance((int)_reader.BytesConsumed);
                    var place = new TextPlace(start, _place);
                    _key = name;
                    members.Expect(name, at);
                    _reader.Read();
                    members.Add(name, at, Value(), place);
                }

                return new ConfigNode(NodeKind.Mapping, null, line, members.Members);
            case JsonTokenType.StartArray:
                List<ConfigMember> items = [];
                while (_reader.Read() && _reader.TokenType != JsonTokenType.EndArray)
                {
                    items.Add(new ConfigMember(string.Empty, Line(), Value()));
                }

                return new ConfigNode(NodeKind.Sequence, null, line, items);
            case JsonTokenType.Null:
                return ConfigNode.Scalar(NodeKind.Null, null, line);
            case JsonTokenType.String:
                return ConfigNode.Scalar(NodeKind.Text, _reader.GetString(), line);
            default:
                return ConfigNode.Scalar(NodeKind.Literal, Encoding.UTF8.GetString(_reader.ValueSpan), line);
        }
    }

    private int Line()
    {
        Advance((int)_reader.TokenStartIndex);
        return _line;
    }

    // Tokens are found by bytes, texts are cut by characters: both are counted on from the last place.
    private void Advance(int at)
    {
        _line += _bytes[_counted..at].Count((byte)'\n');
        _place += Encoding.UTF8.GetCharCount(_bytes[_counted..at]);
        _counted = at;
    }

    // The reader's sentence ends with a position that this error already has.
    private static string Reason(JsonException error) => error.Message.Split(" LineNumber:")[0].TrimEnd('.');
}
