namespace KvCacheGpu.Llama;

/// <summary>A token that is matched in text whole, before anything else.</summary>
/// <param name="Content">Its text.</param>
/// <param name="Id">The token.</param>
internal sealed record AddedToken(string Content, int Id)
{
    /// <summary>True if decoding leaves it out.</summary>
    public bool IsSpecial { get; init; }

    /// <summary>True if it is a token only where no letter, digit or mark stands right before or after it.</summary>
    public bool IsSingleWord { get; init; }

    /// <summary>True if it takes the white space before it.</summary>
    public bool TakesSpaceBefore { get; init; }

    /// <summary>True if it takes the white space after it.</summary>
    public bool TakesSpaceAfter { get; init; }

    /// <summary>True if it is looked for in text that is normalized already, in its own normalized form.</summary>
    public bool IsNormalized { get; init; }

    /// <summary>Reads the settings that Hugging Face writes beside a token's content.</summary>
    public static AddedToken Read(JsonFile token, string content, int id) => new(content, id)
    {
        IsSpecial = token.Bool("special", false),
        IsSingleWord = token.Bool("single_word", false),
        TakesSpaceBefore = token.Bool("lstrip", false),
        TakesSpaceAfter = token.Bool("rstrip", false),
        IsNormalized = token.Bool("normalized", false),
    };
}
