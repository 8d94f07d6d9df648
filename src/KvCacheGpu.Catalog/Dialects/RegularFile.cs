using System.Runtime.InteropServices;
using System.Text;

namespace KvCacheGpu.Catalog;

/// <summary>Tells files from pipes and devices by their names alone.</summary>
/// <remarks>A file of SQLite must not be opened a second time in a process: closing it would take away the locks of every connection to it.</remarks>
internal static class RegularFile
{
    private const int CurrentFolder = -100;
    private const uint WantType = 1;

    // The kernel's struct statx, the same on every processor: 256 bytes, the mode in the 16 bits at 28.
    private const int StatxBytes = 256;
    private const int ModeAt = 28;

    /// <summary>What stands there that is no file: "a folder", "a pipe" and the like; null for a file, for nothing, and where it cannot be told.</summary>
    public static string? OtherThan(string path)
    {
        if (Directory.Exists(path))
        {
            return "a folder";
        }

        byte[] status = new byte[StatxBytes];
        if (!OperatingSystem.IsLinux() || Statx(CurrentFolder, [.. Encoding.UTF8.GetBytes(path), 0], 0, WantType, status) != 0)
        {
            return null;
        }

        return (BitConverter.ToUInt16(status, ModeAt) & 0xF000) switch
        {
            0x8000 => null,
            0x1000 => "a pipe",
            0xC000 => "a socket",
            _ => "a device",
        };
    }

    [DllImport("libc", EntryPoint = "statx")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Statx(int folder, byte[] path, int flags, uint mask, byte[] status);
}
