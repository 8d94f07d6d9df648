namespace KvCacheGpu.Llama;

/// <summary>A token that is matched as a whole in text, before anything else.</summary>
/// <param name="Content">Its text.</param>
/// <param name="Id">The token.</param>
internal sealed record AddedToken(string Content, int Id)
{
    /// <summary>True if decoding omits it.</summary>
    public bool IsSpecial { get; init; }

    /// <summary>True if it is a token only when no letter, digit or mark is directly before or after it.</summary>
    public bool IsSingleWord { get; init; }

    /// <summary>True if it takes the white space before it.</summary>
    public bool TakesSpaceBefore { get; init; }

    /// <summary>True if it takes the white space after it.</summary>
    public bool TakesSpaceAfter { get; init; }

    /// <summary>True if its normalized form is searched in normalized text.</summary>
    public bool IsNormalized { get; init; }

    /// <summary>Reads the settings beside a token's content in Hugging Face's files.</summary>
    public static AddedToken Read(JsonFile token, string content, int id) => new(content, id)
    {
        IsSpecial = token.Bool("special", false),
        IsSingleWord = token.Bool("single_word", false),
        TakesSpaceBefore = token.Bool("lstrip", false),
        TakesSpaceAfter = token.Bool("rstrip", false),
        IsNormalized = token.Bool("normalized", false),
    };
}
