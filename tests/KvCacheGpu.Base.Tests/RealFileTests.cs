using System.Diagnostics;
using System.Runtime.Versioning;

namespace KvCacheGpu.Base.Tests;

/// <summary>The real file system: what libc is asked for, and what lies at a path.</summary>
[SupportedOSPlatform("linux")]
public sealed class RealFileTests : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("kvcache-base-").FullName;
    private readonly OpenFile _folder;

    public RealFileTests() => _folder = new OpenFile(LibcFiles.Instance, LibcFiles.Instance.OpenDirectory(_path));

    public void Dispose()
    {
        _folder.Dispose();
        Directory.Delete(_path, recursive: true);
    }

    [Fact]
    public void A_file_is_written_synced_replaced_and_removed()
    {
        byte[] content = [1, 2, 3, 4, 5];
        using (OpenFile file = _folder.Open("a.tmp", FileUse.Create))
        {
            file.Write(content, 0);
            file.Sync();
            Assert.Equal((5L, 0x180), (file.Length, LibcFiles.Instance.Mode(file.Descriptor)));
        }

        _folder.Replace("a.tmp", "a", content);
        _folder.Sync();
        Assert.Equal(["a"], LibcFiles.Instance.List(_folder.Descriptor));
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(_path, "a")));
        _folder.Remove("a");
        _folder.Remove("a");
        Assert.Empty(Directory.EnumerateFileSystemEntries(_path));
    }

    [Fact]
    public void A_failed_call_says_which_and_why()
    {
        FileCallException missing = Assert.Throws<FileCallException>(() => _folder.Open("none", FileUse.Read));
        Assert.Equal((FileCallException.NoEntry, true, "open none: not there (ENOENT)"), (missing.Error, missing.IsOfTheFile, missing.Message));
        _folder.Open("a", FileUse.Create).Dispose();
        Assert.Equal(FileCallException.Exists, Assert.Throws<FileCallException>(() => _folder.Open("a", FileUse.Create)).Error);
        File.CreateSymbolicLink(Path.Combine(_path, "link"), "a");
        Assert.Equal(FileCallException.Loop, Assert.Throws<FileCallException>(() => _folder.Open("link", FileUse.Read)).Error);
    }

    [Fact]
    public void A_lock_ends_with_its_file()
    {
        OpenFile first = _folder.Open("LOCK", FileUse.Lock);
        using OpenFile second = _folder.Open("LOCK", FileUse.Lock);
        Assert.True(LibcFiles.Instance.TryLock(first.Descriptor));
        Assert.False(LibcFiles.Instance.TryLock(second.Descriptor));
        first.Dispose();
        Assert.True(LibcFiles.Instance.TryLock(second.Descriptor));
    }

    [Theory]
    [InlineData(0x1C0, false)]
    [InlineData(0x1F8, false)]
    [InlineData(0x1C2, true)]
    public void A_directory_that_every_user_writes_to_has_a_flaw(int mode, bool hasFlaw)
    {
        File.SetUnixFileMode(_path, (UnixFileMode)mode);
        Assert.Equal(hasFlaw, _folder.FlawOfDirectory() is not null);
    }

    [Fact]
    public void What_lies_at_a_path_is_named_before_it_is_opened()
    {
        string pipe = Path.Combine(_path, "pipe"), file = Path.Combine(_path, "file");
        File.WriteAllText(file, "");
        using (Process made = Process.Start("mkfifo", pipe))
        {
            made.WaitForExit();
        }

        Assert.Equal(
            (null, null, "a folder", "a named pipe", "a device"),
            (PathKind.FlawOf(file), PathKind.FlawOf(file + "-none"), PathKind.FlawOf(_path), PathKind.FlawOf(pipe), PathKind.FlawOf("/dev/null")));
    }

    // Not by InlineData: attributes keep their texts as UTF-8.
    [Fact]
    public void Text_that_UTF8_cannot_say_is_named()
    {
        foreach ((string? text, string? flaw) in new[]
        {
            ("naïve \ud83d\ude00 \0 text", null), ("a\ud83d", "half of a surrogate pair, U+D83D"), ("\ude00\ud83d", "half of a surrogate pair, U+DE00"), (null, (string?)null),
        })
        {
            Assert.Equal(flaw, KvText.Flaw(text));
            Assert.Equal(flaw is null, Record.Exception(() => KvText.WellFormed(text, "name")) is null);
        }
    }
}
