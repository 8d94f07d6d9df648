using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace KvCacheGpu.Configuration;

/// <summary>A member of a YAML mapping and where it stands. Lines count from 1, columns and places from 0.</summary>
/// <param name="Name">Its key.</param>
/// <param name="Line">The key's line.</param>
/// <param name="Column">The key's column: a block's indentation.</param>
/// <param name="NameEnd">Place behind the key.</param>
/// <param name="ValueStart">Place of the value's first character.</param>
/// <param name="ValueEnd">Place behind a scalar's or a flow mapping's last character.</param>
/// <param name="LastLine">The last line that surely belongs to it.</param>
/// <param name="Value">A scalar's value; null for other nodes.</param>
/// <param name="Members">A mapping's members; null for other nodes.</param>
/// <param name="IsFlow">Whether the value is written in braces.</param>
internal sealed record YamlMember(
    string Name, int Line, int Column, int NameEnd, int ValueStart, int ValueEnd, int LastLine, string? Value, List<YamlMember>? Members, bool IsFlow)
{
    private const int MostDepth = 16;

    /// <summary>The members of the one document's root, which is a block mapping; none where the text is empty.</summary>
    /// <exception cref="KvConfigurationException">Other YAML, or what this library does not take: anchors, aliases, tags, a key twice (E003).</exception>
    public static List<YamlMember> Read(string path, string text)
    {
        var parser = new Parser(new StringReader(text));
        try
        {
            parser.Consume<StreamStart>();
            if (parser.TryConsume<StreamEnd>(out _))
            {
                return [];
            }

            parser.Consume<DocumentStart>();
            List<YamlMember> root = ReadRoot(parser, path);
            parser.Consume<DocumentEnd>();
            return parser.TryConsume<StreamEnd>(out _) ? root : throw Refusal(path, parser.Current!.Start, "one document", "another");
        }
        catch (YamlException error)
        {
            throw new KvConfigurationException($"{path}:{error.Start.Line}", "YAML", error.Message.Split('\n')[0], error);
        }
        catch (InvalidOperationException error)
        {
            // The scanner's own slips on what is no YAML.
            throw new KvConfigurationException($"{path}:{parser.Current?.End.Line ?? 1}", "YAML", "something else", error);
        }
    }

    /// <summary>Every scalar by its path: what an edit must not change.</summary>
    public static IEnumerable<(string Path, string Value)> Leaves(IEnumerable<YamlMember> members, string above = "") =>
        members.SelectMany(member => member.Members is { } inner
            ? Leaves(inner, $"{above}/{member.Name}")
            : [($"{above}/{member.Name}", member.Value ?? string.Empty)]);

    private static List<YamlMember> ReadRoot(Parser parser, string path)
    {
        if (parser.TryConsume<Scalar>(out Scalar? only) && only.Value.Length == 0)
        {
            return [];
        }

        if (only is not null || parser.Current is not MappingStart { Style: not MappingStyle.Flow } start)
        {
            throw Refusal(path, (only ?? parser.Current)!.Start, "keys in block style, key: value", "another form");
        }

        Check(path, start);
        return ReadMapping(parser, path, 0, out _, out _);
    }

    private static List<YamlMember> ReadMapping(Parser parser, string path, int depth, out int lastLine, out int end)
    {
        MappingStart start = parser.Consume<MappingStart>();
        lastLine = (int)start.Start.Line;
        var members = new List<YamlMember>();
        while (parser.Current is not MappingEnd)
        {
            if (parser.Current is not Scalar key)
            {
                throw Refusal(path, parser.Current!.Start, "a plain key", "another");
            }

            parser.MoveNext();

            Check(path, key);
            if (key.Value == "<<" || members.Exists(member => member.Name == key.Value))
            {
                throw Refusal(path, key.Start, "each key once, and no merge", $"'{key.Value}'");
            }

            YamlMember member = ReadValue(parser, path, key, depth + 1);
            members.Add(member);
            lastLine = Math.Max(lastLine, member.LastLine);
        }

        MappingEnd close = parser.Consume<MappingEnd>();
        end = (int)close.End.Index;
        lastLine = start.Style == MappingStyle.Flow ? (int)close.End.Line : lastLine;
        return members;
    }

    private static YamlMember ReadValue(Parser parser, string path, Scalar key, int depth)
    {
        ParsingEvent first = parser.Current!;
        Check(path, first);
        if (depth > MostDepth)
        {
            throw Refusal(path, first.Start, $"at most {MostDepth} levels", "more");
        }

        int lastLine = (int)key.Start.Line, end = (int)first.End.Index;
        List<YamlMember>? members = null;
        string? value = null;
        if (first is MappingStart)
        {
            members = ReadMapping(parser, path, depth, out lastLine, out end);
        }
        else if (first is Scalar scalar)
        {
            parser.MoveNext();
            value = scalar.Value;
            // A block scalar's end is where the next token begins.
            lastLine = scalar.Style is ScalarStyle.Literal or ScalarStyle.Folded || scalar.Value.Length == 0 ? lastLine : (int)scalar.End.Line;
        }
        else
        {
            SkipSequence(parser, path, out lastLine, out value);
        }

        return new YamlMember(
            key.Value, (int)key.Start.Line, (int)key.Start.Column - 1, (int)key.End.Index, (int)first.Start.Index, end, lastLine, value, members,
            first is MappingStart { Style: MappingStyle.Flow });
    }

    private static void SkipSequence(Parser parser, string path, out int lastLine, out string value)
    {
        int depth = 0;
        lastLine = 0;
        var parts = new List<string>();
        do
        {
            ParsingEvent one = parser.Consume<ParsingEvent>();
            Check(path, one);
            depth += one.NestingIncrease;
            if (one is Scalar scalar)
            {
                parts.Add(scalar.Value);
                lastLine = Math.Max(lastLine, (int)(scalar.Style is ScalarStyle.Literal or ScalarStyle.Folded ? scalar.Start : scalar.End).Line);
            }
            else if (one is SequenceStart or MappingStart)
            {
                parts.Add("[");
                lastLine = Math.Max(lastLine, (int)one.Start.Line);
            }
        }
        while (depth > 0);
        value = string.Join('\0', parts);
    }

    private static void Check(string path, ParsingEvent one)
    {
        if (one is AnchorAlias || (one is NodeEvent node && (!node.Anchor.IsEmpty || !node.Tag.IsEmpty)))
        {
            throw Refusal(path, one.Start, "plain values", "an anchor, an alias or a tag");
        }
    }

    private static KvConfigurationException Refusal(string path, in Mark mark, string expected, string actual) =>
        new($"{path}:{mark.Line}", expected, actual);
}
