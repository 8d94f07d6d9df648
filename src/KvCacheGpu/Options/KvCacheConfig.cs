using System.Collections;
using System.Reflection;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>
/// The keys of configuration files, in groups. A flat key in Pascal case is the property's name, wherever it stands: <c>max_tokens</c> is
/// <see cref="MaxTokens"/>, <c>compression_ratio</c> is <see cref="KvCompressionOptions.CompressionRatio"/>, <c>enable_gc</c> is
/// <see cref="KvMemoryOptions.EnableGc"/>. Names of enum members, in lower case, are the values that files write.
/// </content>
/// <remarks>
/// <c>UltraAdaptiveKvCacheEngine</c> reads them; <see cref="KvCache"/> alone does not. The settings above that code has set win
/// over what follows from a group.
/// </remarks>
public sealed partial class KvCacheConfig
{
    /// <summary>What happens where room runs out (<c>cache_strategy</c>). The default value is <see cref="KvCacheStrategy.Adaptive"/>.</summary>
    public KvCacheStrategy CacheStrategy { get; set; } = KvCacheStrategy.Adaptive;

    /// <summary>What the cache is used for (<c>cache_mode</c>). The default value is <see cref="KvCacheMode.Inference"/>.</summary>
    public KvCacheMode CacheMode { get; set; } = KvCacheMode.Inference;

    /// <summary>Heads, width and page of a single layer.</summary>
    public KvModelOptions Model { get; private set; } = new();

    /// <summary>How keys and values become smaller.</summary>
    public KvCompressionOptions Compression { get; private set; } = new();

    /// <summary>Bytes, and when room is made.</summary>
    public KvMemoryOptions Memory { get; private set; } = new();

    /// <summary>Sessions on disk.</summary>
    public KvPersistenceOptions Persistence { get; private set; } = new();

    /// <summary>Pages fetched ahead.</summary>
    public KvPrefetchOptions Prefetch { get; private set; } = new();

    /// <summary>A tier shared between machines.</summary>
    public KvDistributedOptions Distributed { get; private set; } = new();

    /// <summary>Tenants.</summary>
    public KvTenancyOptions Tenancy { get; private set; } = new();

    /// <summary>Threads, warm-up and timings.</summary>
    public KvExecutionOptions Execution { get; private set; } = new();

    /// <summary>Every setting and its value, "KvCacheConfig { Device = auto, MaxTokens = 4096, ... }".</summary>
    public override string ToString()
    {
        IEnumerable<string> settings = typeof(KvCacheConfig)
            .GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Select(property => $"{property.Name} = {Text(property.GetValue(this))}");
        return $"{nameof(KvCacheConfig)} {{ {string.Join(", ", settings)} }}";
    }

    /// <summary>What code has set, where the property has a default to tell apart from it.</summary>
    internal PageFormat? ChosenKeyFormat { get; private set; }

    internal PageFormat? ChosenValueFormat { get; private set; }

    internal PageFormat? ChosenFullPrecision { get; private set; }

    internal double? ChosenWatermark { get; private set; }

    internal int? ChosenBatchTokens { get; private set; }

    private static string Text(object? value) => value switch
    {
        null => "null",
        string text => text,
        IEnumerable several => $"[{string.Join(", ", several.Cast<object>())}]",
        _ => $"{value}",
    };

    private void CopyGroups()
    {
        Model = Model with { };
        Compression = Compression with { };
        Memory = Memory with { };
        Persistence = Persistence with { };
        Prefetch = Prefetch with { };
        Distributed = Distributed with { };
        Tenancy = Tenancy with { };
        Execution = Execution with { };
    }
}
