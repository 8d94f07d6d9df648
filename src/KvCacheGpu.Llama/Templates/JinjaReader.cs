namespace KvCacheGpu.Llama;

/// <summary>Walks over a template's tokens, and counts how deep what is read lies in other things.</summary>
internal sealed class JinjaReader(IReadOnlyList<JinjaToken> tokens)
{
    // Reading and evaluating what is nested takes stack.
    private const int MostNested = 60;

    private int _at;
    private int _nested;

    /// <summary>The next token.</summary>
    public JinjaToken Now => tokens[_at];

    /// <summary>The token after the next one.</summary>
    public JinjaToken Later => tokens[Math.Min(_at + 1, tokens.Count - 1)];

    /// <summary>Takes the next token.</summary>
    public JinjaToken Next() => tokens[_at < tokens.Count - 1 ? _at++ : _at];

    /// <summary>Takes the next token if it is this operator, bracket or tag.</summary>
    public bool Skip(string sign) => Take(Now.IsSign(sign));

    /// <summary>Takes the next token if it is this keyword.</summary>
    public bool SkipName(string name) => Take(Now.IsName(name));

    /// <summary>Takes the next token, which must be this operator, bracket or tag.</summary>
    public void Expect(string sign)
    {
        if (!Skip(sign))
        {
            throw Unexpected($"'{sign}'");
        }
    }

    /// <summary>Takes the next token, which must be a name.</summary>
    public string Name() => Now.Kind == JinjaTokenKind.Name ? Next().Text : throw Unexpected("a name");

    /// <summary>The error that something else was expected here.</summary>
    public JinjaException Unexpected(string expected) => new($"{Now} where {expected} is expected", Now.Line);

    /// <summary>Reads what lies one deeper.</summary>
    /// <exception cref="JinjaException">That is too deep.</exception>
    public T Nested<T>(Func<T> read)
    {
        if (_nested == MostNested)
        {
            throw new JinjaException($"more than {MostNested} things in each other", Now.Line);
        }

        _nested++;
        T result = read();
        _nested--;
        return result;
    }

    private bool Take(bool takes)
    {
        _at += takes ? 1 : 0;
        return takes;
    }
}
