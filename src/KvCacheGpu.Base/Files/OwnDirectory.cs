namespace KvCacheGpu;

/// <summary>Opens directories in which a store keeps its files: no symbolic link, and none into which another user may put something.</summary>
public static class OwnDirectory
{
    /// <summary>Opens a directory that is there.</summary>
    /// <param name="files">The file system.</param>
    /// <param name="path">A full path.</param>
    /// <param name="what">What keeps its files there, for errors: "store /data/kv".</param>
    /// <param name="isShared">True if others may write to it.</param>
    /// <exception cref="KvConfigurationException">Others may write to it (E003), and <paramref name="isShared"/> is not set.</exception>
    /// <exception cref="FileCallException">It is not there, a symbolic link, or cannot be opened.</exception>
    public static OpenFile Open(IStoreFiles files, string path, string what, bool isShared = false)
    {
        ArgumentNullException.ThrowIfNull(files);
        var directory = new OpenFile(files, files.OpenDirectory(path));
        try
        {
            return isShared || directory.FlawOfDirectory() is not { } flaw
                ? directory
                : throw new KvConfigurationException(what, $"{OpenFile.OwnDirectory}, or one that the store makes within it", flaw);
        }
        catch
        {
            directory.Dispose();
            throw;
        }
    }

    /// <summary>Opens a directory, and makes it (not its parents) if it is not there.</summary>
    /// <inheritdoc cref="Open"/>
    public static OpenFile OpenOrMake(IStoreFiles files, string path, string what, bool isShared = false)
    {
        ArgumentNullException.ThrowIfNull(files);
        try
        {
            return Open(files, path, what, isShared);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            using var above = new OpenFile(files, files.OpenDirectory(Path.GetDirectoryName(path) ?? "/"));
            FileCallException? refused = null;
            try
            {
                files.MakeDirectory(path);
            }
            catch (FileCallException failure)
            {
                // Another writer may have been first: its directory is ours too. Or it was made, and the answer was lost.
                refused = failure;
            }

            above.Sync();
            try
            {
                return Open(files, path, what, isShared);
            }
            catch (FileCallException still) when (refused is not null && still.Error == FileCallException.NoEntry)
            {
                throw refused;
            }
        }
    }

    /// <summary>Takes the writer's place in a directory; it ends with the file's closing, or with the process.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="name">The file whose lock it is. It is made if it is not there, and never deleted.</param>
    /// <param name="what">What is locked, for errors.</param>
    /// <exception cref="KvStoreBusyException">Another has it (E006).</exception>
    public static OpenFile Lock(OpenFile directory, string name, string what)
    {
        OpenFile file = directory.Open(name, FileUse.Lock);
        try
        {
            return directory.Files.TryLock(file.Descriptor)
                ? file
                : throw new KvStoreBusyException(what, "no other writer", "another process or store that writes");
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }
}
