namespace KvCacheGpu;

/// <summary>
/// Every file operation of a snapshot store, one libc call each, names relative to an open directory: the seam at which tests put a
/// file system that fails and loses power. Failures are <see cref="FileCallException"/>.
/// </summary>
internal interface IStoreFiles
{
    /// <summary>Opens a directory that is no symlink.</summary>
    int OpenDirectory(string path);

    /// <summary>Makes a directory that only its owner enters; its parent exists.</summary>
    void MakeDirectory(string path);

    /// <summary>Opens a file that is no symlink.</summary>
    int Open(int directory, string name, FileUse use);

    /// <summary>Names in a directory, in any order.</summary>
    IReadOnlyList<string> List(int directory);

    /// <summary>Reads at an offset; fewer bytes than asked for are no error, 0 is the end.</summary>
    int Read(int file, Span<byte> bytes, long offset);

    /// <summary>Writes at an offset; fewer bytes than given are no error.</summary>
    int Write(int file, ReadOnlySpan<byte> bytes, long offset);

    long Length(int file);

    /// <summary>A file's or directory's permission bits.</summary>
    int Mode(int file);

    /// <summary>Whether it belongs to another user than this one and root, as far as that can be told; to root nothing is foreign.</summary>
    bool IsForeign(int file);

    /// <summary>Sets a file's permission bits, whatever the umask.</summary>
    void SetMode(int file, int mode);

    /// <summary>The user and the group that a file belongs to.</summary>
    FileOwner Owner(int file);

    /// <summary>Gives a file to a user and a group. Where this process may not do that, the file keeps the owner that it has.</summary>
    void SetOwner(int file, FileOwner owner);

    /// <summary>Makes a file's bytes, or a directory's entries, survive a power loss. After a failure what they are is unknown for good.</summary>
    void Sync(int file);

    /// <summary>Puts an entry in the place of another, in one step.</summary>
    void Rename(int directory, string from, string to);

    void Unlink(int directory, string name);

    /// <summary>Takes the file's lock, which ends with its descriptor, or says that another holds it.</summary>
    bool TryLock(int file);

    void Close(int file);
}

/// <summary>Whom a file belongs to, by numbers.</summary>
internal readonly record struct FileOwner(uint User, uint Group);

/// <summary>What a file is opened for.</summary>
internal enum FileUse
{
    /// <summary>Read what is there.</summary>
    Read,

    /// <summary>Make what is not there, for its owner alone; read and write it.</summary>
    Create,

    /// <summary>Make what is not there, or open what is: the lock.</summary>
    Lock,
}
