using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace KvCacheGpu.Configuration;

/// <summary>
/// Reads one YAML document with the place of each value, for settings and for edits alike. Anchors, aliases and tags are refused: they make a small file expand without
/// bound, or name types to be made.
/// </summary>
internal sealed class YamlNodes
{
    private readonly SourceText _source;
    private readonly Parser _parser;
    private string? _key;
    private int _values;

    private YamlNodes(SourceText source)
    {
        _source = source;
        _parser = new Parser(new StringReader(source.Text));
    }

    /// <summary>Reads a document; an empty one is an empty mapping.</summary>
    /// <exception cref="KvConfigurationException">E003: with the line, and the key where there is one.</exception>
    public static ConfigNode Parse(SourceText source)
    {
        YamlNodes text = new(source);
        try
        {
            return text.Document();
        }
        catch (YamlException error)
        {
            throw new KvConfigurationException(source.At((int)error.Start.Line, text._key), "YAML", error.Message.Split('\n')[0], error);
        }
        catch (InvalidOperationException error)
        {
            // The scanner's own slips on what is no YAML.
            throw new KvConfigurationException(source.At((int)(text._parser.Current?.End.Line ?? 1), text._key), "YAML", "something else", error);
        }
    }

    private ConfigNode Document()
    {
        _parser.Consume<StreamStart>();
        if (_parser.Accept<StreamEnd>(out _))
        {
            return new ConfigNode(NodeKind.Mapping, null, 1, []);
        }

        _parser.Consume<DocumentStart>();
        ConfigNode root = Value(0);
        _parser.Consume<DocumentEnd>();
        return _parser.Accept<DocumentStart>(out DocumentStart? second)
            ? throw new KvConfigurationException(_source.At((int)second.Start.Line), "one document", "a second one")
            : root;
    }

    private ConfigNode Value(int depth)
    {
        ParsingEvent next = _parser.Consume<ParsingEvent>();
        int line = (int)next.Start.Line;
        Refuse(next is AnchorAlias, line, "an alias");
        Refuse(next is NodeEvent { Anchor.IsEmpty: false }, line, "an anchor");
        Refuse(next is NodeEvent { Tag.IsEmpty: false }, line, "a tag");
        if (++_values > ConfigNode.MostValues)
        {
            throw ConfigNode.TooMany(_source.At(line, _key));
        }

        if (depth > ConfigNode.MostDepth)
        {
            throw new KvConfigurationException(_source.At(line, _key), $"at most {ConfigNode.MostDepth} levels", "more");
        }

        switch (next)
        {
            case MappingStart start:
                MemberList members = new(_source);
                while (!_parser.Accept<MappingEnd>(out _))
                {
                    ConfigNode key = Value(depth + 1);
                    Refuse(key.Kind is NodeKind.Mapping or NodeKind.Sequence, key.Line, "a key that is no text");
                    string name = _key = key.Text ?? "null";
                    Refuse(name == "<<", key.Line, "a merge");
                    members.Expect(name, key.Line);
                    ConfigNode value = Value(depth + 1);
                    // No value at all is met where the next token begins.
                    bool isNothing = value.Place.Start == value.Place.End;
                    members.Add(name, key.Line, isNothing ? value with { Place = value.Place with { LastLine = key.Line } } : value, key.Place);
                }

                return Collection(NodeKind.Mapping, start, _parser.Consume<MappingEnd>(), start.Style == MappingStyle.Flow, members.Members);
            case SequenceStart start:
                List<ConfigMember> items = [];
                while (!_parser.Accept<SequenceEnd>(out _))
                {
                    ConfigNode item = Value(depth + 1);
                    items.Add(new ConfigMember(string.Empty, item.Line, item));
                }

                return Collection(NodeKind.Sequence, start, _parser.Consume<SequenceEnd>(), start.Style == SequenceStyle.Flow, items);
            case Scalar scalar:
                ConfigNode node = scalar.Style != ScalarStyle.Plain ? ConfigNode.Scalar(NodeKind.Text, scalar.Value, line)
                    : scalar.Value is "" or "~" or "null" or "Null" or "NULL" ? ConfigNode.Scalar(NodeKind.Null, null, line)
                    : ConfigNode.Scalar(NodeKind.Plain, scalar.Value, line);
                // A block scalar's end is where the next token begins.
                return node with { Place = Place(scalar, scalar, (int)(scalar.Style is ScalarStyle.Literal or ScalarStyle.Folded ? scalar.Start : scalar.End).Line, isFlow: false) };
            default:
                // As where a value stands without its key.
                throw new KvConfigurationException(_source.At(line, _key), "YAML", "something else");
        }
    }

    private static ConfigNode Collection(NodeKind kind, NodeEvent start, ParsingEvent end, bool isFlow, IReadOnlyList<ConfigMember> members)
    {
        int line = (int)start.Start.Line;
        int lastLine = isFlow ? (int)end.End.Line : members.Aggregate(line, (last, member) => Math.Max(last, member.Node.Place.LastLine));
        return new ConfigNode(kind, null, line, members) { Place = Place(start, end, lastLine, isFlow) };
    }

    // A closing bracket is marked by where it begins.
    private static TextPlace Place(ParsingEvent first, ParsingEvent last, int lastLine, bool isFlow) =>
        new((int)first.Start.Index, (int)last.End.Index + (isFlow ? 1 : 0), (int)first.Start.Column - 1, lastLine, isFlow);

    private void Refuse(bool isThere, int line, string what)
    {
        if (isThere)
        {
            throw new KvConfigurationException(_source.At(line, _key), "plain YAML without anchors, aliases and tags", what);
        }
    }
}
