namespace KvCacheGpu;

/// <summary>A key of configuration files: a row of the table <see cref="KvConfigurationKeys.All"/>, from which keys are read, checked, written and documented.</summary>
/// <remarks>Thread safety: it never changes; a configuration that it writes to is used by one thread at a time.</remarks>
public sealed class KvConfigurationKey
{
    private const string Prefix = "KV_CACHE_";

    private readonly KeyValue _value;

    internal KvConfigurationKey(string name, string group, KeyValue value, string sets, string meaning)
    {
        (Name, Group, _value, Sets, Meaning) = (name, group, value, sets, meaning);
        Variable = name.ToUpperInvariant();
        Default = value.Read(new KvCacheConfig());
    }

    /// <summary>The key, "max_tokens".</summary>
    public string Name { get; }

    /// <summary>The group that it belongs to, for people: "memory".</summary>
    public string Group { get; }

    /// <summary>Its environment variable, "KV_CACHE_MAX_TOKENS".</summary>
    public string Variable { get; internal init => field = Prefix + value; }

    /// <summary>Another variable that sets it unless <see cref="Variable"/> does; null if there is none.</summary>
    public string? OtherVariable { get; internal init => field = Prefix + value; }

    /// <summary>The value if no source sets one; null if it has none.</summary>
    public string? Default { get; }

    /// <summary>The values that it takes, in words.</summary>
    public string Allowed => _value.Domain.Allowed;

    /// <summary>What it does.</summary>
    public string Meaning { get; }

    /// <summary>The options of <see cref="KvCacheOptions"/> that it sets, in backquotes: "`Watermark`"; else a part of the engine, "statistics"; "inactive" if it sets nothing in this build.</summary>
    public string Sets { get; }

    /// <summary>True if a running engine takes a new value; false if only the next start does.</summary>
    public bool IsLive { get; internal init; }

    /// <summary>True if its values are texts, which quotes may stand around; false if they are numbers or switches.</summary>
    public bool IsText => _value.Domain.IsText;

    /// <summary>True if it may have no value.</summary>
    public bool TakesNull => _value.Domain.TakesNull;

    /// <summary>Returns the reason why a value of its domain is refused in a configuration, or null.</summary>
    internal Func<KvCacheConfig, string?> Refuses { get; init; } = _ => null;

    /// <summary>Returns what a user should know of its value in a configuration, or null.</summary>
    internal IReadOnlyList<Func<KeyContext, string?>> Warns { get; init; } = [];

    /// <summary>The value in a configuration, as files write it.</summary>
    public string? Read(KvCacheConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return _value.Read(config);
    }

    /// <summary>Sets the value in a configuration.</summary>
    /// <param name="config">The configuration.</param>
    /// <param name="value">The value as files write it.</param>
    /// <exception cref="KvConfigurationException">E003: the key does not take it.</exception>
    public void Write(KvCacheConfig config, string? value)
    {
        ArgumentNullException.ThrowIfNull(config);
        _value.Write(config, TryParse(value, isVariable: false, out string? canonical) ? canonical : throw new KvConfigurationException(Name, Allowed, value ?? "nothing"));
    }

    /// <summary>Reads a value; the same value always becomes the same text.</summary>
    /// <param name="text">The text, or null for no value.</param>
    /// <param name="isVariable">True for the value of an environment variable, in which a switch may also be "1", "on", "yes" and their opposites.</param>
    /// <param name="value">The value as files write it.</param>
    /// <returns>False if the key does not take it.</returns>
    public bool TryParse(string? text, bool isVariable, out string? value)
    {
        value = text is null ? null : _value.Domain.Read(text, isVariable);
        return value is not null || (text is null && TakesNull);
    }
}

/// <summary>A configuration, and what follows from it, for the warnings of keys.</summary>
/// <param name="Config">The configuration, without issues.</param>
/// <param name="Options">The options that follow from it.</param>
/// <param name="Geometry">The model's shape.</param>
/// <param name="IsGiven">True if code gave the shape, so that the keys of the model have no effect.</param>
internal readonly record struct KeyContext(KvCacheConfig Config, KvCacheOptions Options, KvGeometry Geometry, bool IsGiven);
