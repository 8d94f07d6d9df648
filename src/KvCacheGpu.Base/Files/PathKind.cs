using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>
/// Says what kind of thing lies at a path before it is opened: opening a named pipe that nobody writes to would wait for ever. KvCacheGpu.Import and
/// KvCacheGpu.Catalog.Sqlite, which do not reference Base, compile this file for themselves.
/// </summary>
#if KVCACHE_BASE
public static unsafe partial class PathKind
#else
internal static unsafe partial class PathKind
#endif
{
    private const int CurrentFolder = -100, KindAlone = 1, KindBits = 0xF000;

    /// <summary>
    /// Names what lies at a path, in words for an error: "a folder", "a named pipe". Null if it is a regular file, if nothing is there, or if it is a stream that this process was handed open.
    /// </summary>
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
