using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace KvCacheGpu;

/// <summary>The real file system of Windows. It is compiled and reviewed, and has never run there.</summary>
/// <remarks>
/// A file's bytes are durable by FlushFileBuffers, whose errors are reported. Windows documents no flush of a directory: an entry is replaced by a rename that is written through
/// (MOVEFILE_WRITE_THROUGH), and NTFS logs names in one order, so that flushing a file that was made flushes its name. Other file systems may promise less.
/// Who may read a file is left to the access control lists that it inherits from its directory: permission bits and owners are not looked at.
/// Thread safety: members may be called from any thread.
/// </remarks>
[SupportedOSPlatform("windows")]
internal sealed unsafe class WindowsFiles : IStoreFiles
{
    private const int OwnerOnly = 0x180; // 0600: nobody is said to have more.
    private const int MostCharacters = 32_768;

    // Locks of Windows keep others from reading what is locked. No file has a byte there.
    private const int LockAtHigh = 0x4000_0000;

    /// <inheritdoc/>
    public int OpenDirectory(string path) =>
        Opened("open", path, Kernel32.GenericRead, Kernel32.OpenExisting, Kernel32.BackupSemantics, isDirectory: true);

    /// <inheritdoc/>
    public void MakeDirectory(string path) => Checked("mkdir", path, Kernel32.MakeDirectory(path, 0));

    /// <inheritdoc/>
    public int Open(int directory, string name, FileUse use)
    {
        (uint access, uint creation) = use switch
        {
            FileUse.Read => (Kernel32.GenericRead, Kernel32.OpenExisting),
            FileUse.Create => (Kernel32.GenericRead | Kernel32.GenericWrite, Kernel32.CreateNew),
            FileUse.Change => (Kernel32.GenericRead | Kernel32.GenericWrite, Kernel32.OpenExisting),
            _ => (Kernel32.GenericRead | Kernel32.GenericWrite, Kernel32.OpenAlways),
        };
        return Opened("open", In(directory, name), access, creation, 0, isDirectory: false);
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> List(int directory)
    {
        try
        {
            return [.. Directory.EnumerateFileSystemEntries(PathOf(directory)).Select(path => Path.GetFileName(path))];
        }
        catch (Exception error) when (error is (IOException and not FileCallException) or UnauthorizedAccessException)
        {
            throw new FileCallException("readdir", "of the store", FileCallException.InputOutput);
        }
    }

    /// <inheritdoc/>
    public int Read(int file, Span<byte> bytes, long offset)
    {
        uint done = 0;
        NativeOverlapped at = At(offset);
        fixed (byte* start = bytes)
        {
            if (Kernel32.Read(file, start, (uint)bytes.Length, &done, &at) == 0 && Marshal.GetLastPInvokeError() != Kernel32.EndOfFile)
            {
                Checked("read", $"at {offset}", 0);
            }
        }

        return (int)done;
    }

    /// <inheritdoc/>
    public int Write(int file, ReadOnlySpan<byte> bytes, long offset)
    {
        uint done = 0;
        NativeOverlapped at = At(offset);
        fixed (byte* start = bytes)
        {
            Checked("write", $"at {offset}", Kernel32.Write(file, start, (uint)bytes.Length, &done, &at));
        }

        return (int)done;
    }

    /// <inheritdoc/>
    public long Length(int file)
    {
        long length = 0;
        Checked("size", string.Empty, Kernel32.Length(file, &length));
        return length;
    }

    /// <inheritdoc/>
    public int Mode(int file) => OwnerOnly;

    /// <inheritdoc/>
    public bool IsForeign(int file) => false;

    /// <inheritdoc/>
    public void SetMode(int file, int mode)
    {
    }

    /// <inheritdoc/>
    public FileOwner Owner(int file) => default;

    /// <inheritdoc/>
    public void SetOwner(int file, FileOwner owner)
    {
    }

    /// <inheritdoc/>
    // Never tried again, as on Linux. A directory has no flush of its own: see above.
    public void Sync(int file)
    {
        if ((AttributesOf(file).Attributes & Kernel32.Directory) == 0)
        {
            Checked("FlushFileBuffers", string.Empty, Kernel32.Flush(file));
        }
    }

    /// <inheritdoc/>
    public void Rename(int directory, string from, string to) =>
        Checked("rename", to, Kernel32.Rename(In(directory, from), In(directory, to), Kernel32.ReplaceExisting | Kernel32.WriteThrough));

    /// <inheritdoc/>
    public void Unlink(int directory, string name) => Checked("unlink", name, Kernel32.Unlink(In(directory, name)));

    /// <inheritdoc/>
    public bool TryLock(int file)
    {
        NativeOverlapped at = new() { OffsetHigh = LockAtHigh };
        int result = Kernel32.Lock(file, Kernel32.LockExclusive | Kernel32.LockAtOnce, 0, 1, 0, &at);
        if (result == 0 && Marshal.GetLastPInvokeError() == Kernel32.LockViolation)
        {
            return false;
        }

        Checked("lock", "LOCK", result);
        return true;
    }

    /// <inheritdoc/>
    // Whatever has to survive was synced before, so that an error here means nothing.
    public void Close(int file) => Kernel32.Close(file);

    // Windows promises that 32 bits of a handle are significant, sign-extended to a pointer's width.
    private static int Opened(string call, string path, uint access, uint creation, uint flags, bool isDirectory)
    {
        nint handle = Kernel32.Open(path, access, Kernel32.ShareAll, 0, creation, flags | Kernel32.OpenReparsePoint, 0);
        if (handle == -1)
        {
            Checked(call, path, 0);
        }

        int file = checked((int)handle);
        try
        {
            (uint attributes, uint tag) = AttributesOf(file);
            int error = (attributes & Kernel32.ReparsePoint) != 0 && tag is Kernel32.SymbolicLink or Kernel32.MountPoint ? FileCallException.Loop
                : (attributes & Kernel32.Directory) != 0 == isDirectory ? 0
                : isDirectory ? FileCallException.NotADirectory : FileCallException.IsADirectory;
            return error == 0 ? file : throw new FileCallException(call, path, error);
        }
        catch
        {
            Kernel32.Close(file);
            throw;
        }
    }

    private static (uint Attributes, uint Tag) AttributesOf(int file)
    {
        uint* answer = stackalloc uint[2];
        Checked("attributes", string.Empty, Kernel32.AttributesOf(file, Kernel32.AttributeTag, answer, 2 * sizeof(uint)));
        return (answer[0], answer[1]);
    }

    private static string In(int directory, string name) => $"{PathOf(directory)}\\{name}";

    // In the form \\?\C:\..., which Windows takes as it stands.
    private static string PathOf(int directory)
    {
        char[] path = new char[MostCharacters];
        fixed (char* start = path)
        {
            // Without the room it would return the length that it needs, at most this one.
            uint length = Kernel32.PathOf(directory, start, MostCharacters, 0);
            Checked("path", "of the store", length is 0 or >= MostCharacters ? 0 : 1);
            return new string(path, 0, (int)length);
        }
    }

    private static NativeOverlapped At(long offset) => new() { OffsetLow = (int)offset, OffsetHigh = (int)(offset >> 32) };

    // Calls return 0 where they fail.
    private static void Checked(string call, string name, int result)
    {
        if (result == 0)
        {
            throw new FileCallException(call, name, Kernel32.ErrorOf(Marshal.GetLastPInvokeError()));
        }
    }
}
