namespace KvCacheGpu.Serving;

/// <summary>Why an answer ended.</summary>
public enum KvFinish
{
    /// <summary>The answer has a token or text that ends it.</summary>
    Stop,

    /// <summary>It has <see cref="KvRequest.MaxNewTokens"/> tokens, or fills the model's context.</summary>
    Length,

    /// <summary>It was cancelled.</summary>
    Cancelled,

    /// <summary>The request's deadline came.</summary>
    Deadline,

    /// <summary>The scheduler was closed before the answer's end.</summary>
    Closed,

    /// <summary>A step failed, or the answer alone does not fit into the cache; <see cref="KvGeneration.Failure"/> says how.</summary>
    Failed,
}

/// <summary>A piece of an answer: one token, or its end. Thread safety: it never changes.</summary>
/// <param name="Choice">The answer, counted from 0.</param>
/// <param name="Token">The token; null at the end.</param>
/// <param name="Text">Text that may be shown now. Characters come when they are whole, and when they cannot be part of a text that ends the answer. Empty without a tokenizer.</param>
/// <param name="Finish">Why the answer ended; null before its end.</param>
public sealed record KvPiece(int Choice, int? Token, string Text, KvFinish? Finish)
{
    /// <summary>How likely the token was; null if nobody asked, and at the end.</summary>
    public KvLogprobs? Logprobs { get; init; }
}

/// <summary>A whole answer. Thread safety: it never changes.</summary>
/// <param name="Tokens">Its tokens, with the one that ended it.</param>
/// <param name="Text">Its text; empty without a tokenizer.</param>
/// <param name="Finish">Why it ended.</param>
/// <param name="Logprobs">How likely each token was; empty if nobody asked.</param>
public sealed record KvAnswer(IReadOnlyList<int> Tokens, string Text, KvFinish Finish, IReadOnlyList<KvLogprobs> Logprobs);
