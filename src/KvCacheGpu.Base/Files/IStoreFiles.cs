namespace KvCacheGpu;

/// <summary>
/// The file operations behind everything that must survive a power loss, one libc call each, with names relative to an open directory. Tests put a file system
/// in its place that fails and loses power. Failures are <see cref="FileCallException"/>s.
/// </summary>
public interface IStoreFiles
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

    /// <summary>Bytes of a file.</summary>
    long Length(int file);

    /// <summary>A file's or directory's permission bits.</summary>
    int Mode(int file);

    /// <summary>Returns true if a file or directory belongs to a user who is neither this one nor root, as far as that can be told. To root nothing is foreign.</summary>
    bool IsForeign(int file);

    /// <summary>Sets a file's permission bits, whatever the umask.</summary>
    void SetMode(int file, int mode);

    /// <summary>The user and the group that a file belongs to.</summary>
    FileOwner Owner(int file);

    /// <summary>Gives a file to a user and a group. Where this process may not do that, the file keeps the owner that it has.</summary>
    void SetOwner(int file, FileOwner owner);

    /// <summary>Makes a file's bytes, or a directory's entries, survive a power loss. After a failure nobody can find out which of them will.</summary>
    void Sync(int file);

    /// <summary>Puts an entry in the place of another, in one step.</summary>
    void Rename(int directory, string from, string to);

    /// <summary>Removes an entry that is no directory.</summary>
    void Unlink(int directory, string name);

    /// <summary>Takes the file's lock, which ends when the file is closed. Returns false if another holds it.</summary>
    bool TryLock(int file);

    /// <summary>Closes a file or directory.</summary>
    void Close(int file);
}

/// <summary>The user and the group that a file belongs to.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="User">Number of the user.</param>
/// <param name="Group">Number of the group.</param>
public readonly record struct FileOwner(uint User, uint Group);

/// <summary>The purposes for which files are opened.</summary>
public enum FileUse
{
    /// <summary>Read a file that is there.</summary>
    Read,

    /// <summary>Make a file that is not there yet, for its owner alone; read and write it.</summary>
    Create,

    /// <summary>Open a file, and make it if it is not there: a lock.</summary>
    Lock,

    /// <summary>Read and write a file that is there.</summary>
    Change,
}
