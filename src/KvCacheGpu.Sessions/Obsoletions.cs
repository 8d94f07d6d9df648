namespace KvCacheGpu;

/// <summary>Every diagnostic id of an obsolete name. docs/obsolete.md has a section for each.</summary>
internal static class Obsoletions
{
    public const string UrlFormat = "docs/obsolete.md#{0}";

    public const string SimpleKvCacheId = "KVC0001";
    public const string SimpleKvCacheMessage = "SimpleKvCache is the API of version 1: use UltraAdaptiveKvCacheEngine";
}
