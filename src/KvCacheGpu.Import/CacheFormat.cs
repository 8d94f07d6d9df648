namespace KvCacheGpu.Import;

/// <summary>What kind of file an old cache is.</summary>
public enum CacheFormat
{
    /// <summary>A pickle, protocols 2 to 5.</summary>
    Pickle,

    /// <summary>torch.save since 1.6: a ZIP archive.</summary>
    TorchZip,

    /// <summary>torch.save before that: pickles, then storages.</summary>
    TorchLegacy,

    /// <summary>torch.save of version 0.1: a tar archive.</summary>
    TorchTar,
}
