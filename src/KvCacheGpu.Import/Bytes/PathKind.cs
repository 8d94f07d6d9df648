using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>
/// Finds the kind of file at a path before it is opened, because opening a named pipe to which nobody writes would wait for ever. This source file is compiled into
/// each assembly that opens files which users name.
/// </summary>
internal static unsafe partial class PathKind
{
    private const int CurrentFolder = -100, KindAlone = 1, KindBits = 0xF000;

    /// <summary>Names the kind of file at a path for an error, if it is no regular file. Returns null for a regular file, if there is none, and for streams that this process was given open.</summary>
    public static string? FlawOf(string path)
    {
        // The shell's <(command) and a redirected standard input are pipes to which somebody writes.
        if (!OperatingSystem.IsLinux() || path.StartsWith("/dev/fd/", StringComparison.Ordinal) || path.StartsWith("/proc/", StringComparison.Ordinal) || path == "/dev/stdin")
        {
            return null;
        }

        // statx, unlike stat, has one layout on all architectures. The kind is in the 16 bits at byte 28.
        byte* answer = stackalloc byte[256];
        return Statx(CurrentFolder, path, 0, KindAlone, answer) != 0 ? null : (*(ushort*)(answer + 28) & KindBits) switch
        {
            0x8000 => null,
            0x4000 => "a folder",
            0x1000 => "a named pipe",
            0xC000 => "a socket",
            _ => "a device",
        };
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folder, string path, int flags, uint mask, byte* answer);
}
