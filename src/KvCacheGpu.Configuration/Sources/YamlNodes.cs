using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace KvCacheGpu.Configuration;

/// <summary>
/// Reads one YAML document with the line of each value. Anchors, aliases and tags are refused: they make a small file expand without
/// bound, or name types to be made.
/// </summary>
internal sealed class YamlNodes
{
    private readonly SourceText _source;
    private readonly Parser _parser;
    private string? _key;

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
            throw new KvConfigurationException(source.At((int)error.Start.Line, text._key), "YAML", error.Message, error);
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
        if (depth > ConfigNode.MostDepth)
        {
            throw new KvConfigurationException(_source.At(line, _key), $"at most {ConfigNode.MostDepth} levels", "more");
        }

        switch (next)
        {
            case MappingStart:
                MemberList members = new(_source);
                while (!_parser.TryConsume<MappingEnd>(out _))
                {
                    ConfigNode key = Value(depth + 1);
                    Refuse(key.Kind is NodeKind.Mapping or NodeKind.Sequence, key.Line, "a key that is no text");
                    _key = key.Text ?? "null";
                    members.Expect(_key, key.Line);
                    members.Add(_key, key.Line, Value(depth + 1));
                }

                return new ConfigNode(NodeKind.Mapping, null, line, members.Members);
            case SequenceStart:
                List<ConfigMember> items = [];
                while (!_parser.TryConsume<SequenceEnd>(out _))
                {
                    ConfigNode item = Value(depth + 1);
                    items.Add(new ConfigMember(string.Empty, item.Line, item));
                }

                return new ConfigNode(NodeKind.Sequence, null, line, items);
            default:
                Scalar scalar = (Scalar)next;
                return scalar.Style != ScalarStyle.Plain ? ConfigNode.Scalar(NodeKind.Text, scalar.Value, line)
                    : scalar.Value is "" or "~" or "null" or "Null" or "NULL" ? ConfigNode.Scalar(NodeKind.Null, null, line)
                    : ConfigNode.Scalar(NodeKind.Plain, scalar.Value, line);
        }
    }

    private void Refuse(bool isThere, int line, string what)
    {
        if (isThere)
        {
            throw new KvConfigurationException(_source.At(line, _key), "plain YAML without anchors, aliases and tags", what);
        }
    }
}
