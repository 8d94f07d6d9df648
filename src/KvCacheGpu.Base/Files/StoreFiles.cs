namespace KvCacheGpu;

/// <summary>Chooses the file system of the system that this process runs on.</summary>
public static class StoreFiles
{
    /// <summary>The real file system: through libc on Linux, and on Windows through its own calls, which have not been tested there.</summary>
    /// <exception cref="KvUnsupportedException">E009: neither Linux nor Windows.</exception>
    /// <remarks>Thread safety: it never changes, and its members may be called from any thread.</remarks>
    public static IStoreFiles OfThisSystem => OperatingSystem.IsWindows() ? field ??= new WindowsFiles() : LibcFiles.Instance;
}
