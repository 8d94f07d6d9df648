using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu;

/// <summary>The real file system, through libc.</summary>
/// <remarks>Thread safety: members may be called from any thread.</remarks>
public sealed unsafe class LibcFiles : IStoreFiles
{
    private const int OwnerOnly = 0x180; // 0600
    private const int OwnerEnters = 0x1C0; // 0700

    private LibcFiles()
    {
    }

    /// <summary>The only instance.</summary>
    /// <exception cref="KvUnsupportedException">Not on Linux.</exception>
    public static LibcFiles Instance => OperatingSystem.IsLinux()
        ? field ??= new LibcFiles()
        : throw new KvUnsupportedException("durable files", "Linux, whose fsync reports errors", RuntimeInformation.OSDescription);

    /// <inheritdoc/>
    public int OpenDirectory(string path) =>
        Checked("open", path, Libc.Open(path, Libc.ReadOnly | Libc.Directory | Libc.NoFollow | Libc.CloseOnExec, 0));

    /// <inheritdoc/>
    public void MakeDirectory(string path) => Checked("mkdir", path, Libc.MakeDirectory(path, OwnerEnters));

    /// <inheritdoc/>
    public int Open(int directory, string name, FileUse use)
    {
        // Without NonBlocking a pipe planted here would hold the caller for ever.
        int flags = Libc.NoFollow | Libc.CloseOnExec | Libc.NonBlocking | use switch
        {
            FileUse.Read => Libc.ReadOnly,
            FileUse.Create => Libc.ReadWrite | Libc.Create | Libc.Exclusive,
            FileUse.Change => Libc.ReadWrite,
            _ => Libc.ReadWrite | Libc.Create,
        };
        while (true)
        {
            int file = Libc.OpenAt(directory, name, flags, OwnerOnly);
            if (file >= 0 || Marshal.GetLastPInvokeError() != Libc.Interrupted)
            {
                return Checked("open", name, file);
            }
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> List(int directory)
    {
        try
        {
            return [.. Directory.EnumerateFileSystemEntries($"/proc/self/fd/{directory}").Select(path => Path.GetFileName(path))];
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FileCallException("readdir", "of the store", FileCallException.InputOutput);
        }
    }

    /// <inheritdoc/>
    public int Read(int file, Span<byte> bytes, long offset)
    {
        fixed (byte* start = bytes)
        {
            while (true)
            {
                nint count = Libc.Read(file, start, (nuint)bytes.Length, offset);
                if (count >= 0 || Marshal.GetLastPInvokeError() != Libc.Interrupted)
                {
                    return Checked("read", $"at {offset}", (int)count);
                }
            }
        }
    }

    /// <inheritdoc/>
    public int Write(int file, ReadOnlySpan<byte> bytes, long offset)
    {
        fixed (byte* start = bytes)
        {
            while (true)
            {
                nint count = Libc.Write(file, start, (nuint)bytes.Length, offset);
                if (count >= 0 || Marshal.GetLastPInvokeError() != Libc.Interrupted)
                {
                    return Checked("write", $"at {offset}", (int)count);
                }
            }
        }
    }

    /// <inheritdoc/>
    public long Length(int file)
    {
        long length = Libc.Seek(file, 0, Libc.SeekEnd);
        return length >= 0 ? length : throw new FileCallException("lseek", "", FileCallException.InputOutput);
    }

    /// <inheritdoc/>
    [UnsupportedOSPlatform("windows")]
    public int Mode(int file)
    {
        // fstat's layout differs between architectures: the runtime knows them.
        using var handle = new SafeFileHandle(file, ownsHandle: false);
        return (int)File.GetUnixFileMode(handle);
    }

    /// <inheritdoc/>
    // A sandbox may not know the call: then the permission bits have to do.
    public bool IsForeign(int file) => Libc.User() is not 0 and var user && StatusOf(file, out FileOwner owner) == 0 && owner.User != 0 && owner.User != user;

    /// <inheritdoc/>
    public void SetMode(int file, int mode) => Checked("chmod", "", Libc.ChangeMode(file, mode));

    /// <inheritdoc/>
    public FileOwner Owner(int file)
    {
        Checked("statx", "", StatusOf(file, out FileOwner owner));
        return owner;
    }

    /// <inheritdoc/>
    public void SetOwner(int file, FileOwner owner)
    {
        int result = Libc.ChangeOwner(file, owner.User, owner.Group);
        if (result < 0 && Marshal.GetLastPInvokeError() != Libc.NotPermitted)
        {
            Checked("chown", "", result);
        }
    }

    /// <inheritdoc/>
    // Never tried again: the kernel forgets the bytes that it could not write, and would report success.
    public void Sync(int file) => Checked("fsync", "", Libc.Sync(file));

    /// <inheritdoc/>
    public void Rename(int directory, string from, string to) => Checked("rename", to, Libc.Rename(directory, from, directory, to));

    /// <inheritdoc/>
    public void Unlink(int directory, string name) => Checked("unlink", name, Libc.Unlink(directory, name, 0));

    /// <inheritdoc/>
    public bool TryLock(int file)
    {
        int result = Libc.Lock(file, Libc.LockExclusive | Libc.LockNonBlocking);
        return result >= 0 || (Marshal.GetLastPInvokeError() == Libc.WouldBlock ? false : Checked("flock", "LOCK", result) == 0);
    }

    /// <inheritdoc/>
    // Whatever has to survive was synced before, so that an error here means nothing.
    public void Close(int file) => Libc.Close(file);

    // statx, unlike fstat, has one layout on all architectures.
    private static int StatusOf(int file, out FileOwner owner)
    {
        byte* answer = stackalloc byte[Libc.StatusBytes];
        int result = Libc.Status(file, string.Empty, Libc.EmptyPath, Libc.OwnerAlone, answer);
        owner = new FileOwner(*(uint*)(answer + Libc.OwnerUserAt), *(uint*)(answer + Libc.OwnerGroupAt));
        return result;
    }

    private static int Checked(string call, string name, int result) =>
        result >= 0 ? result : throw new FileCallException(call, name, Marshal.GetLastPInvokeError());
}
