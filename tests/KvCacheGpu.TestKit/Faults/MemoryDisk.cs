namespace KvCacheGpu.TestKit;

/// <summary>
/// Directories and files in memory, with what a power loss would leave of them: unsynced data is lost, reordered and torn by sectors,
/// and every directory entry, on its own, falls back to any state that it had since the directory was last synced.
/// </summary>
internal sealed class MemoryDisk
{
    private readonly Dictionary<string, DiskDirectory> _directories = new() { ["/"] = new DiskDirectory { IsDurable = true } };

    public DiskDirectory? Find(string path) => _directories.GetValueOrDefault(path);

    public void Make(string path)
    {
        if (!_directories.ContainsKey(Path.GetDirectoryName(path)!))
        {
            throw new FileCallException("mkdir", path, FileCallException.NoEntry);
        }

        if (!_directories.TryAdd(path, new DiskDirectory()))
        {
            throw new FileCallException("mkdir", path, FileCallException.Exists);
        }
    }

    /// <summary>Syncs a directory: its entries, and which directories there are in it.</summary>
    public void Sync(DiskDirectory directory)
    {
        directory.Sync();
        string path = _directories.Single(one => one.Value == directory).Key;
        foreach ((string name, DiskDirectory one) in _directories)
        {
            one.IsDurable |= Path.GetDirectoryName(name) == path;
        }
    }

    /// <summary>A disk as it might be found after a power loss now.</summary>
    public MemoryDisk AfterPowerLoss(Random random) =>
        With(directory => directory.IsDurable || random.Next(2) == 0, (directory, copies) => directory.AfterPowerLoss(random, copies));

    /// <summary>The disk as programs see it, all of it durable: what a crash of the process alone leaves.</summary>
    public MemoryDisk Copy() => With(_ => true, (directory, copies) => directory.Copy(copies));

    private MemoryDisk With(
        Func<DiskDirectory, bool> stays, Func<DiskDirectory, Dictionary<DiskFile, DiskFile>, DiskDirectory> copy)
    {
        var disk = new MemoryDisk();
        var copies = new Dictionary<DiskFile, DiskFile>();
        foreach ((string path, DiskDirectory directory) in _directories)
        {
            // One goes with what holds it; those that hold others were made before them.
            if ((path == "/" || disk._directories.ContainsKey(Path.GetDirectoryName(path)!)) && stays(directory))
            {
                disk._directories[path] = copy(directory, copies);
            }
        }

        return disk;
    }
}

/// <summary>Entries of a directory, each with what it was since the last sync: first the durable state, last what programs see.</summary>
internal sealed class DiskDirectory
{
    private readonly Dictionary<string, List<DiskFile?>> _entries = [];

    public bool IsDurable { get; set; }

    public int Mode { get; set; } = 0x1C0; // 0700

    /// <summary>True if it belongs to another user.</summary>
    public bool IsForeign { get; set; }

    public IReadOnlyList<string> Names => [.. _entries.Where(entry => entry.Value[^1] is not null).Select(entry => entry.Key)];

    public DiskFile? Find(string name) => _entries.GetValueOrDefault(name)?[^1];

    public void Set(string name, DiskFile? file)
    {
        if (!_entries.TryGetValue(name, out List<DiskFile?>? states))
        {
            _entries[name] = states = [null];
        }

        states.Add(file);
    }

    public void Sync()
    {
        foreach (List<DiskFile?> states in _entries.Values)
        {
            states.RemoveRange(0, states.Count - 1);
        }
    }

    public DiskDirectory AfterPowerLoss(Random random, Dictionary<DiskFile, DiskFile> copies) =>
        Choose(states => states[random.Next(states.Count)], copies, file => file.AfterPowerLoss(random));

    public DiskDirectory Copy(Dictionary<DiskFile, DiskFile> copies) => Choose(states => states[^1], copies, file => file.Copy());

    private DiskDirectory Choose(Func<List<DiskFile?>, DiskFile?> choose, Dictionary<DiskFile, DiskFile> copies, Func<DiskFile, DiskFile> copy)
    {
        var directory = new DiskDirectory { IsDurable = true, Mode = Mode, IsForeign = IsForeign };
        foreach ((string name, List<DiskFile?> states) in _entries)
        {
            if (choose(states) is { } file)
            {
                if (!copies.TryGetValue(file, out DiskFile? survivor))
                {
                    copies[file] = survivor = copy(file);
                }

                directory._entries[name] = [survivor];
            }
        }

        return directory;
    }
}
