namespace KvCacheGpu.Llama;

/// <summary>Reads which token starts every text: tokenizer_config.json says whether, config.json says which.</summary>
internal static class TokenizerStart
{
    /// <summary>The token, or null where texts start without one.</summary>
    public static int? Read(string directory, LlamaConfig config)
    {
        string path = Path.Combine(directory, "tokenizer_config.json");
        bool starts = config.Architecture.StartsTexts;
        return (File.Exists(path) ? JsonFile.Open(path).Bool("add_bos_token", starts) : starts) ? config.BosTokenId : null;
    }
}
