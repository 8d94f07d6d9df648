using System.Security.Cryptography;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// A checkpoint of Llama's kind (<see cref="Architecture.Known"/>) in memory: shape, weights, tokenizer. Thread safety: it never changes; any number of decoders may use
/// one, on any threads.
/// </summary>
public sealed class LlamaModel : IDisposable
{
    private const int FingerprintDigits = 24;

    private readonly LlamaLayer[] _layers;
    private bool _disposed;

    private LlamaModel(string directory, LlamaConfig config, PackedMatrix embedding, PackedMatrix head, float[] norm, LlamaLayer[] layers)
    {
        (Directory, Config) = (directory, config);
        (Embedding, Head, Norm, _layers) = (embedding, head, norm, layers);
    }

    /// <summary>The directory from which it was loaded.</summary>
    public string Directory { get; }

    /// <summary>The directory's own name.</summary>
    public string Name => Path.GetFileName(Path.TrimEndingDirectorySeparator(Directory));

    /// <summary>Its shape.</summary>
    public LlamaConfig Config { get; }

    /// <summary>Its tokenizer; null if the directory has none, or one that is not served: then prompts must be token ids.</summary>
    public LlamaTokenizer? Tokenizer { get; private init; }

    /// <summary>The reason why the directory's tokenizer is not served (E009); null if it is served, or if there is none.</summary>
    public LlamaFormatException? TokenizerRefusal { get; private init; }

    /// <summary>The first 24 hexadecimal digits of SHA-256 over a model's configuration, weights and tokenizer. Reads all of these files.</summary>
    /// <param name="directory">The directory.</param>
    public static string FingerprintOf(string directory)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in System.IO.Directory.GetFiles(directory).Where(IsOfModel).Order(StringComparer.Ordinal))
        {
            LlamaFormatException.ThrowIfNoFile(file);
            using FileStream stream = File.OpenRead(file);
            hash.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(file)));
            hash.AppendData(SHA256.HashData(stream));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..FingerprintDigits];
    }

    /// <summary>Bytes of its matrices in memory.</summary>
    public long WeightBytes => Embedding.Bytes + (ReferenceEquals(Head, Embedding) ? 0 : Head.Bytes) + _layers.Sum(l => l.Bytes);

    internal PackedMatrix Embedding { get; }

    internal PackedMatrix Head { get; }

    internal float[] Norm { get; }

    internal ReadOnlySpan<LlamaLayer> Layers
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _layers;
        }
    }

    /// <summary>Loads a directory in Hugging Face layout: config.json, model.safetensors or the shards of model.safetensors.index.json, and a tokenizer if there is one.</summary>
    /// <param name="directory">The directory.</param>
    /// <exception cref="LlamaFormatException">
    /// A file is missing (E002); truncated, inconsistent or not finite (E004); or of an architecture that is not served (E009). If only the tokenizer is of a kind
    /// that is not served, <see cref="Tokenizer"/> is null and <see cref="TokenizerRefusal"/> has the reason.
    /// </exception>
    public static LlamaModel Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (!System.IO.Directory.Exists(directory))
        {
            LlamaFormatException.ThrowMissing(directory, "a model directory");
        }

        LlamaConfig config = LlamaConfig.Load(Path.Combine(directory, "config.json"));
        (LlamaTokenizer? tokenizer, LlamaFormatException? refusal) = LoadTokenizer(directory, config);
        using WeightFiles files = WeightFiles.Open(directory);
        List<IDisposable> loaded = [];
        try
        {
            PackedMatrix embedding = Keep(PackedMatrix.Load(files, config.HiddenSize, ("model.embed_tokens.weight", config.VocabularySize)));
            PackedMatrix head = config.TieWordEmbeddings
                ? embedding
                : Keep(PackedMatrix.Load(files, config.HiddenSize, ("lm_head.weight", config.VocabularySize)));
            float[] norm = WeightReader.Vector(files, "model.norm.weight", config.HiddenSize);
            LlamaLayer[] layers = new LlamaLayer[config.Layers];
            for (int i = 0; i < layers.Length; i++)
            {
                layers[i] = Keep(LlamaLayer.Load(files, config, i));
            }

            files.RefuseUnread(config.Architecture.Name);
            return new LlamaModel(Path.GetFullPath(directory), config, embedding, head, norm, layers) { Tokenizer = tokenizer, TokenizerRefusal = refusal };
        }
        catch
        {
            loaded.ForEach(l => l.Dispose());
            throw;
        }

        T Keep<T>(T resource)
            where T : IDisposable
        {
            loaded.Add(resource);
            return resource;
        }
    }

    /// <summary>The shape of this model's keys and values, with which a cache for it is made.</summary>
    /// <param name="pageTokens">Tokens in a page, 1..1024. The default value is 64.</param>
    public KvGeometry Geometry(int pageTokens = 64) => Config.Geometry(pageTokens);

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        Embedding.Dispose();
        Head.Dispose();
        Array.ForEach(_layers, l => l.Dispose());
    }

    private static (LlamaTokenizer? Tokenizer, LlamaFormatException? Refusal) LoadTokenizer(string directory, LlamaConfig config)
    {
        try
        {
            return (LlamaTokenizer.Load(directory, config), null);
        }
        catch (LlamaFormatException refusal) when (refusal.Code == "E009")
        {
            // Weights can be used without a tokenizer, since prompts may be token ids.
            return (null, refusal);
        }
    }

    private static bool IsOfModel(string file) => Path.GetExtension(file) is ".json" or ".safetensors" or ".model" || Path.GetFileName(file) == "merges.txt";
}
