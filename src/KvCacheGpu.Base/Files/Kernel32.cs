using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>The calls of Windows behind <see cref="WindowsFiles"/>, as fileapi.h and winbase.h declare them: BOOL and DWORD of 32 bits, paths in UTF-16, handles as wide as a pointer.</summary>
internal static unsafe partial class Kernel32
{
    public const uint GenericRead = 0x8000_0000;
    public const uint GenericWrite = 0x4000_0000;
    public const uint ShareAll = 7; // Read, write, delete: as on Linux, an open file keeps nobody from renaming or removing it.
    public const uint CreateNew = 1;
    public const uint OpenExisting = 3;
    public const uint OpenAlways = 4;
    public const uint OpenReparsePoint = 0x0020_0000;
    public const uint BackupSemantics = 0x0200_0000;
    public const uint Directory = 0x10;
    public const uint ReparsePoint = 0x400;
    public const uint SymbolicLink = 0xA000_000C;
    public const uint MountPoint = 0xA000_0003;
    public const int AttributeTag = 9;
    public const uint ReplaceExisting = 1;
    public const uint WriteThrough = 8;
    public const uint LockExclusive = 2;
    public const uint LockAtOnce = 1;
    public const int EndOfFile = 38;
    public const int LockViolation = 33;

    // Errors of Windows that have no errno lie above all of these.
    private const int OwnErrors = 1 << 16;

    [LibraryImport("kernel32", EntryPoint = "CreateFileW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
    public static partial nint Open(string path, uint access, uint share, nint security, uint creation, uint flags, nint template);

    [LibraryImport("kernel32", EntryPoint = "CreateDirectoryW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
    public static partial int MakeDirectory(string path, nint security);

    [LibraryImport("kernel32", EntryPoint = "GetFinalPathNameByHandleW", SetLastError = true)]
    public static partial uint PathOf(nint file, char* path, uint characters, uint flags);

    /// <summary>Fills two numbers of 32 bits: the attributes, and the kind of reparse point.</summary>
    [LibraryImport("kernel32", EntryPoint = "GetFileInformationByHandleEx", SetLastError = true)]
    public static partial int AttributesOf(nint file, int kind, uint* answer, uint bytes);

    [LibraryImport("kernel32", EntryPoint = "ReadFile", SetLastError = true)]
    public static partial int Read(nint file, byte* bytes, uint count, uint* done, NativeOverlapped* at);

    [LibraryImport("kernel32", EntryPoint = "WriteFile", SetLastError = true)]
    public static partial int Write(nint file, byte* bytes, uint count, uint* done, NativeOverlapped* at);

    [LibraryImport("kernel32", EntryPoint = "GetFileSizeEx", SetLastError = true)]
    public static partial int Length(nint file, long* length);

    [LibraryImport("kernel32", EntryPoint = "FlushFileBuffers", SetLastError = true)]
    public static partial int Flush(nint file);

    [LibraryImport("kernel32", EntryPoint = "MoveFileExW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
    public static partial int Rename(string from, string to, uint flags);

    [LibraryImport("kernel32", EntryPoint = "DeleteFileW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
    public static partial int Unlink(string path);

    [LibraryImport("kernel32", EntryPoint = "LockFileEx", SetLastError = true)]
    public static partial int Lock(nint file, uint flags, uint reserved, uint countLow, uint countHigh, NativeOverlapped* at);

    [LibraryImport("kernel32", EntryPoint = "CloseHandle", SetLastError = true)]
    public static partial int Close(nint file);

    /// <summary>The errno that says the same as an error of Windows; one that has none is kept by its number.</summary>
    public static int ErrorOf(int windows) => windows switch
    {
        2 or 3 => FileCallException.NoEntry,                            // no file, no path
        4 => 24,                                                        // too many open files
        5 or 32 => 13,                                                  // access denied; another holds it without sharing
        19 => 30,                                                       // write-protected
        23 or 1117 => FileCallException.InputOutput,                    // a checksum, the device
        39 or 112 => FileCallException.NoSpace,
        80 or 183 => FileCallException.Exists,
        267 => FileCallException.NotADirectory,
        1295 => FileCallException.Quota,
        _ => OwnErrors + windows,
    };

    /// <summary>The error of Windows that has no errno; null if it is an errno.</summary>
    public static int? OwnError(int error) => error >= OwnErrors ? error - OwnErrors : null;
}
