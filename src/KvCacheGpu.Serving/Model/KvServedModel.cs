namespace KvCacheGpu.Serving;

/// <summary>A model under a name, with what turns text into its tokens. Thread safety: it never changes.</summary>
/// <param name="Name">The name that clients ask for.</param>
/// <param name="Model">The model.</param>
public sealed record KvServedModel(string Name, IKvModel Model)
{
    /// <summary>Text to tokens and back. The default value is null: requests are token ids.</summary>
    public IKvTokenizer? Tokenizer { get; init; }

    /// <summary>How conversations are written. The default value is null: the model knows none.</summary>
    public IKvChatTemplate? ChatTemplate { get; init; }

    /// <summary>Why there is no chat template, in a sentence; null if there is one or none was looked for.</summary>
    public string? ChatTemplateRefusal { get; init; }
}
