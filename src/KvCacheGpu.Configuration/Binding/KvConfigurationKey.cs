namespace KvCacheGpu.Configuration;

/// <summary>A key of configuration files: what it takes, what it means, and which property it sets.</summary>
public sealed class KvConfigurationKey
{
    private readonly KeyDomain _domain;
    private readonly Func<KvCacheConfig, string?> _read;
    private readonly Action<KvCacheConfig, string?> _write;

    internal KvConfigurationKey(string name, KeyDomain domain, Func<KvCacheConfig, string?> read, Action<KvCacheConfig, string?> write, string meaning)
    {
        (Name, _domain, _read, _write, Meaning) = (name, domain, read, write, meaning);
        Default = read(new KvCacheConfig());
    }

    /// <summary>The key, "max_tokens". Its variable is <see cref="Variable"/>.</summary>
    public string Name { get; }

    /// <summary>Its environment variable, "KV_CACHE_MAX_TOKENS".</summary>
    public string Variable => EnvironmentNames.VariableOf(Name);

    /// <summary>The value where nobody sets one; null where there is none.</summary>
    public string? Default { get; }

    /// <summary>What it takes, in words.</summary>
    public string Allowed => _domain.Allowed;

    /// <summary>What it does.</summary>
    public string Meaning { get; }

    /// <summary>Whether a running engine takes a new value; else the next start does.</summary>
    public bool IsLive { get; internal init; }

    internal bool IsText => _domain.IsText;

    /// <summary>The value of a configuration, as files write it.</summary>
    public string? Read(KvCacheConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return _read(config);
    }

    internal void Write(KvCacheConfig config, string? value) => _write(config, value);

    /// <summary>Reads what stands in a source; the same value always becomes the same text.</summary>
    /// <exception cref="KvConfigurationException">E003: not what the key takes.</exception>
    internal string? Canonical(NodeKind kind, string? text, string where) =>
        _domain.TryRead(kind, text, out string? value)
            ? value
            : throw new KvConfigurationException(where, Allowed, kind switch
            {
                NodeKind.Mapping => "a mapping",
                NodeKind.Sequence => "a sequence",
                NodeKind.Null => "nothing",
                NodeKind.Text => $"the text \"{text}\"",
                _ => $"{text}",
            });
}
