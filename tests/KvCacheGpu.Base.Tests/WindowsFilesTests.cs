using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace KvCacheGpu.Base.Tests;

/// <summary>What can be held of the files of Windows on a system that is none.</summary>
public class WindowsFilesTests
{
    [Fact]
    public void Each_system_has_its_own_calls()
    {
        Assert.Equal(OperatingSystem.IsWindows() ? "WindowsFiles" : nameof(LibcFiles), StoreFiles.OfThisSystem.GetType().Name);
        Assert.Same(StoreFiles.OfThisSystem, StoreFiles.OfThisSystem);
        Assert.Equal("windows", typeof(WindowsFiles).GetCustomAttribute<SupportedOSPlatformAttribute>()!.PlatformName);
    }

    [Theory]
    [InlineData(2, FileCallException.NoEntry, "not there (ENOENT)")]
    [InlineData(3, FileCallException.NoEntry, "not there (ENOENT)")]
    [InlineData(5, 13, "permission denied (EACCES)")]
    [InlineData(32, 13, "permission denied (EACCES)")]
    [InlineData(112, FileCallException.NoSpace, "no space left (ENOSPC)")]
    [InlineData(80, FileCallException.Exists, "exists already (EEXIST)")]
    [InlineData(183, FileCallException.Exists, "exists already (EEXIST)")]
    [InlineData(267, FileCallException.NotADirectory, "no directory, or a symbolic link in its place (ENOTDIR)")]
    [InlineData(1117, FileCallException.InputOutput, "the device failed (EIO)")]
    [InlineData(1295, FileCallException.Quota, "quota exceeded (EDQUOT)")]
    [InlineData(87, 65_536 + 87, "error 87 of Windows")]
    public void Errors_of_Windows_are_told_as_those_of_Linux_or_by_their_number(int windows, int error, string says)
    {
        Assert.Equal(error, Kernel32.ErrorOf(windows));
        Assert.Equal($"rename a: {says}", new FileCallException("rename", "a", Kernel32.ErrorOf(windows)).Message);
    }

    /// <summary>What a review of the declarations looks at: no error is lost, paths are UTF-16, and all arguments are as wide as Windows has them.</summary>
    [Fact]
    public void Calls_of_Windows_keep_their_errors_and_pass_what_Windows_expects()
    {
        MethodInfo[] calls = [.. typeof(Kernel32).GetMethods(BindingFlags.Static | BindingFlags.Public).Where(call => call.GetCustomAttribute<LibraryImportAttribute>() is not null)];
        Assert.Equal(12, calls.Length);
        Assert.All(calls, call =>
        {
            LibraryImportAttribute import = call.GetCustomAttribute<LibraryImportAttribute>()!;
            Assert.Equal(("kernel32", true), (import.LibraryName, import.SetLastError));
            Type[] types = [call.ReturnType, .. call.GetParameters().Select(parameter => parameter.ParameterType)];
            Assert.Equal(types.Contains(typeof(string)) ? StringMarshalling.Utf16 : StringMarshalling.Custom, import.StringMarshalling);
            Assert.Equal(types.Contains(typeof(string)), import.EntryPoint!.EndsWith('W') && call.Name != nameof(Kernel32.PathOf));
            Assert.All(types, type => Assert.True(type.IsPointer || type == typeof(string) || type == typeof(nint) || type == typeof(int) || type == typeof(uint), $"{call.Name}: {type}"));
        });
    }
}
