namespace KvCacheGpu.Llama;

/// <summary>What a piece of a template is.</summary>
internal enum JinjaTokenKind
{
    /// <summary>Text that is written as it stands.</summary>
    Text,

    /// <summary>A name or keyword.</summary>
    Name,

    /// <summary>A string; the token's text is what it stands for.</summary>
    String,

    /// <summary>A whole number.</summary>
    Integer,

    /// <summary>An operator, a bracket, or what opens or closes a tag.</summary>
    Sign,

    /// <summary>The end of the template.</summary>
    End,
}

/// <summary>A piece of a template.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Text">Its text.</param>
/// <param name="Line">The line on which it begins, from 1.</param>
internal readonly record struct JinjaToken(JinjaTokenKind Kind, string Text, int Line)
{
    /// <summary>True for this operator, bracket or tag.</summary>
    public bool IsSign(string text) => Kind == JinjaTokenKind.Sign && Text == text;

    /// <summary>True for this name or keyword.</summary>
    public bool IsName(string text) => Kind == JinjaTokenKind.Name && Text == text;

    /// <summary>What it is called in errors.</summary>
    public override string ToString() => Kind switch { JinjaTokenKind.End => "the end of the template", JinjaTokenKind.Text => "text", _ => $"'{Text}'" };
}
