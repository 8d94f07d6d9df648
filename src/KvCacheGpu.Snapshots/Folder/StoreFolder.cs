namespace KvCacheGpu;

/// <summary>The open directory of a store: its lock, and the files under a snapshot's name.</summary>
internal readonly struct StoreFolder : IDisposable
{
    private StoreFolder(OpenFile directory, string path) => (Directory, Path) = (directory, path);

    public OpenFile Directory { get; }

    public string Path { get; }

    /// <summary>Opens a store to read it.</summary>
    /// <exception cref="KvConfigurationException">Others may write to it (E003), and <paramref name="isShared"/> is not set.</exception>
    public static StoreFolder Open(IStoreFiles files, string path, bool isShared)
    {
        try
        {
            return new StoreFolder(OwnDirectory.Open(files, path, What(path), isShared), path);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            throw new KvSnapshotNotFoundException("a store of snapshots", $"a directory {path}", "none", error);
        }
    }

    /// <summary>Opens a store to write to it, and makes it if it is not there.</summary>
    public static StoreFolder OpenOrMake(IStoreFiles files, string path, bool isShared) => new(OwnDirectory.OpenOrMake(files, path, What(path), isShared), path);

    /// <summary>Takes the writer's place; it ends with the file's closing, or with the process.</summary>
    public OpenFile Lock() => OwnDirectory.Lock(Directory, StoreNames.Lock, What(Path));

    public StoreListing List(StoreNames names) => new(names, Directory.Files.List(Directory.Descriptor));

    /// <summary>Reads CURRENT; null where there is none.</summary>
    public CurrentFile? ReadCurrent(StoreNames names)
    {
        byte[] bytes;
        try
        {
            bytes = ReadWhole(names.Current, CurrentFile.MostBytes);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            return null;
        }

        return CurrentFile.Read(bytes);
    }

    public byte[] ReadWhole(string name, int most)
    {
        using OpenFile file = Directory.Open(name, FileUse.Read);
        long length = file.Length;
        if (length < 1 || length > most)
        {
            throw new KvCorruptionException(name, $"1..{most} bytes", $"{length}");
        }

        byte[] bytes = new byte[length];
        file.Read(bytes, 0);
        return bytes;
    }

    /// <summary>Deletes files that nobody needs. The next writer tries again to delete those that stay.</summary>
    public void Sweep(IEnumerable<string> names)
    {
        foreach (string name in names)
        {
            try
            {
                Directory.Files.Unlink(Directory.Descriptor, name);
            }
            catch (FileCallException)
            {
            }
        }
    }

    public void Dispose() => Directory.Dispose();

    private static string What(string path) => $"store {path}";
}

/// <summary>The files of one snapshot that lie in a store, as once listed.</summary>
internal sealed class StoreListing(StoreNames names, IReadOnlyList<string> files)
{
    /// <summary>Generations that have a manifest, the newest first.</summary>
    public IReadOnlyList<long> Generations { get; } = [.. files.Select(names.GenerationOfManifest).OfType<long>().OrderDescending()];

    /// <summary>Files left by writers that died. Under the lock nobody writes them.</summary>
    public IEnumerable<string> Temporaries => files.Where(StoreNames.IsTemporary);

    /// <summary>Manifests and blocks with their generations, manifests first: blocks without a manifest are nothing, the other way round not.</summary>
    public IEnumerable<(string Name, long Generation)> All =>
        files.Select(file => (Name: file, Generation: names.GenerationOfManifest(file)))
            .Concat(files.Select(file => (Name: file, Generation: names.GenerationOfBlocks(file))))
            .Where(file => file.Generation is not null)
            .Select(file => (file.Name, file.Generation!.Value));
}
