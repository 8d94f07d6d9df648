namespace KvCacheGpu.TestKit;

/// <summary>The ways in which an operation fails.</summary>
internal enum Fault
{
    /// <summary>The device fails once.</summary>
    InputOutput,

    /// <summary>The device fails, and fails from then on.</summary>
    Dead,

    /// <summary>There is no space: only half of a write arrives.</summary>
    NoSpace,

    /// <summary>Fewer bytes are read or written than asked for, which is no error.</summary>
    Short,

    /// <summary>One bit of the bytes that are written or read is changed.</summary>
    BitFlip,

    /// <summary>The operation takes effect and reports an error, as when a file server's answer is lost.</summary>
    Late,

    /// <summary>The operation takes effect and reports an error, and every one after it fails.</summary>
    LateAndDead,
}

/// <summary>The file operations of a store on a <see cref="MemoryDisk"/>, counted; a chosen one fails.</summary>
internal sealed class FaultFiles(MemoryDisk disk) : IStoreFiles
{
    private readonly Dictionary<int, object> _open = [];
    private int _next = 3;

    /// <summary>Number of operations so far. Closing does not count, because nothing depends on it.</summary>
    public int Operations { get; private set; }

    /// <summary>Number of the operation that fails, from 1; 0 for none.</summary>
    public int FailAt { get; set; }

    public Fault Fault { get; set; }

    /// <summary>Number of faults that took effect: those that change bytes only count if there were bytes.</summary>
    public int Fired { get; private set; }

    /// <summary>Called before each operation.</summary>
    public Action? Before { get; set; }

    /// <summary>Called before each operation that changes something, with "rename NAME": it may set <see cref="FailAt"/> to let it fail.</summary>
    public Action<string>? BeforeCall { get; set; }

    /// <summary>Number of descriptors that were not closed.</summary>
    public int OpenDescriptors => _open.Count;

    public int OpenDirectory(string path)
    {
        Step("open", path);
        return Add(disk.Find(path) ?? throw new FileCallException("open", path, FileCallException.NoEntry));
    }

    public void MakeDirectory(string path)
    {
        Step("mkdir", path, () => disk.Make(path));
    }

    public int Open(int directory, string name, FileUse use)
    {
        Step("open", name, () => MakeFile(directory, name, use));
        DiskFile? file = Directory(directory).Find(name);
        if (use is FileUse.Read or FileUse.Change && file is null)
        {
            throw new FileCallException("open", name, FileCallException.NoEntry);
        }

        return Add(new Descriptor(file!));
    }

    private void MakeFile(int directory, string name, FileUse use)
    {
        bool isThere = Directory(directory).Find(name) is not null;
        if (use == FileUse.Create && isThere)
        {
            throw new FileCallException("open", name, FileCallException.Exists);
        }

        if (use is FileUse.Create or FileUse.Lock && !isThere)
        {
            Directory(directory).Set(name, new DiskFile());
        }
    }

    public IReadOnlyList<string> List(int directory)
    {
        Step("readdir", "");
        return Directory(directory).Names;
    }

    public int Read(int file, Span<byte> bytes, long offset)
    {
        bool isBent = Step("read", "");
        if (isBent && Fault == Fault.Short && bytes.Length > 1)
        {
            return File(file).Read(bytes[..(bytes.Length / 2)], offset);
        }

        int count = File(file).Read(bytes, offset);
        if (isBent && Fault == Fault.BitFlip && count > 0)
        {
            bytes[count / 2] ^= 4;
        }

        return count;
    }

    public int Write(int file, ReadOnlySpan<byte> bytes, long offset)
    {
        bool isFull = Fires && Fault == Fault.NoSpace;
        if (isFull || IsLate)
        {
            File(file).Write(isFull ? bytes[..(bytes.Length / 2)] : bytes, offset);
        }

        bool isBent = Step("write", "");
        if (isBent && Fault == Fault.Short && bytes.Length > 1)
        {
            File(file).Write(bytes[..(bytes.Length / 2)], offset);
            return bytes.Length / 2;
        }

        byte[] written = bytes.ToArray();
        if (isBent && Fault == Fault.BitFlip && written.Length > 0)
        {
            written[written.Length / 2] ^= 4;
        }

        File(file).Write(written, offset);
        return bytes.Length;
    }

    public long Length(int file)
    {
        Step("lseek", "");
        return File(file).Length;
    }

    public int Mode(int file)
    {
        Step("fstat", "");
        return _open[file] is DiskDirectory directory ? directory.Mode : File(file).Mode;
    }

    public bool IsForeign(int file)
    {
        Step("statx", "");
        return _open[file] is DiskDirectory { IsForeign: true };
    }

    public void SetMode(int file, int mode)
    {
        Step("chmod", "", () => File(file).Mode = mode);
    }

    public FileOwner Owner(int file)
    {
        Step("statx", "");
        return File(file).Owner;
    }

    public void SetOwner(int file, FileOwner owner)
    {
        Step("chown", "");
        File(file).Owner = owner;
    }

    public void Sync(int file)
    {
        if (Fires && !IsLate && Fault is not (Fault.Short or Fault.BitFlip) && _open[file] is Descriptor failing)
        {
            failing.File.Forget();
        }

        Step("fsync", "", () =>
        {
            if (_open[file] is Descriptor descriptor)
            {
                descriptor.File.Sync();
            }
            else
            {
                disk.Sync(Directory(file));
            }
        });
    }

    public void Rename(int directory, string from, string to)
    {
        Step("rename", to, () =>
        {
            DiskFile file = Directory(directory).Find(from) ?? throw new FileCallException("rename", from, FileCallException.NoEntry);
            Directory(directory).Set(to, file);
            Directory(directory).Set(from, null);
        });
    }

    public void Unlink(int directory, string name)
    {
        Step("unlink", name, () =>
        {
            _ = Directory(directory).Find(name) ?? throw new FileCallException("unlink", name, FileCallException.NoEntry);
            Directory(directory).Set(name, null);
        });
    }

    public bool TryLock(int file)
    {
        Step("flock", "");
        var descriptor = (Descriptor)_open[file];
        descriptor.HoldsLock = !descriptor.File.IsLocked;
        descriptor.File.IsLocked = true;
        return descriptor.HoldsLock;
    }

    public void Close(int file)
    {
        if (_open.Remove(file, out object? closed) && closed is Descriptor { HoldsLock: true } descriptor)
        {
            descriptor.File.IsLocked = false;
        }
    }

    private bool Fires => FailAt > 0 && (Operations + 1 == FailAt || (Fault is Fault.Dead or Fault.LateAndDead && Operations + 1 > FailAt));

    // True if the next operation takes effect before it fails.
    private bool IsLate => FailAt == Operations + 1 && (Fault is Fault.Late or Fault.LateAndDead);

    private void Step(string call, string name, Action effect)
    {
        BeforeCall?.Invoke($"{call} {name}");
        if (!IsLate)
        {
            Step(call, name);
            effect();
            return;
        }

        effect();
        Step(call, name);
    }

    // Returns true if the operation continues, but with a fault.
    private bool Step(string call, string name)
    {
        Before?.Invoke();
        bool fires = Fires;
        Operations++;
        if (!fires)
        {
            return false;
        }

        bool isBent = Fault is Fault.Short or Fault.BitFlip;
        if (!isBent || call is "read" or "write")
        {
            Fired++;
        }

        return isBent
            ? true
            : throw new FileCallException(call, name, Fault == Fault.NoSpace ? FileCallException.NoSpace : FileCallException.InputOutput);
    }

    private int Add(object opened)
    {
        _open.Add(++_next, opened);
        return _next;
    }

    private DiskFile File(int descriptor) => ((Descriptor)_open[descriptor]).File;

    private DiskDirectory Directory(int descriptor) => (DiskDirectory)_open[descriptor];

    private sealed class Descriptor(DiskFile file)
    {
        public DiskFile File { get; } = file;

        public bool HoldsLock { get; set; }
    }
}
