using System.Diagnostics;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>A store on the machine's own file systems: symlinks, a full disk, failing fsync.</summary>
[Collection(SavingChild.Processes)]
public sealed class RealDiskTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-disk-").FullName;

    private string StorePath => Path.Combine(_folder, "store");

    public void Dispose() => Directory.Delete(_folder, true);

    [Fact]
    public void Files_are_their_owners_alone_and_memory_stays_bounded()
    {
        // 94 MiB on this thread, through two blocks of 256 KiB; the tables and the sample's own generators are most of what is allocated.
        SnapshotSample sample = SnapshotSample.Large(1, 3_000);
        var store = new SnapshotStore(StorePath, new SnapshotOptions { Workers = 1, BlockBytes = 256 << 10 });
        long before = GC.GetAllocatedBytesForCurrentThread();
        store.Save("large", sample.Content, sample.Read);
        using OpenSnapshot open = store.Open("large", true, null, default);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        output.WriteLine($"{allocated >> 20} MiB allocated for saving and verifying {sample.Content.PageBytes >> 20} MiB");
        Assert.InRange(allocated, 1, 16 << 20);
        byte[] page = new byte[sample.Content.BytesOf(2_999)], expected = new byte[page.Length];
        open.Read(2_999, page);
        sample.Read(2_999, expected);
        Assert.Equal(expected, page);
        Assert.All(Directory.EnumerateFiles(StorePath), file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, Mode(file)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, Mode(StorePath));
    }

    [Fact]
    public void Planted_symlinks_and_pipes_are_not_followed()
    {
        var store = new SnapshotStore(StorePath, SnapshotSample.Inline);
        SnapshotSample sample = SnapshotSample.Create(1);
        store.Save("a", sample.Content, sample.Read);
        foreach (string file in Directory.EnumerateFiles(StorePath).ToArray())
        {
            string moved = Path.Combine(_folder, "moved");
            File.Move(file, moved);
            File.CreateSymbolicLink(file, moved);
            bool isLock = file.EndsWith("LOCK", StringComparison.Ordinal), isCurrent = file.EndsWith("CURRENT", StringComparison.Ordinal);
            if (isLock)
            {
                Assert.Equal("E005", Assert.Throws<KvPersistenceException>(() => store.Save("a", sample.Content, sample.Read)).Code);
            }
            else if (isCurrent)
            {
                Assert.Contains("ELOOP", store.Load("a", new KeptTarget(), null, default).Notice, StringComparison.Ordinal);
            }
            else
            {
                Assert.Equal("E004", Assert.Throws<KvCorruptionException>(() => store.Load("a", new KeptTarget(), null, default)).Code);
                Assert.Throws<KvCorruptionException>(() => new SnapshotStore(Path.Combine(_folder, "other")).Restore(store, null, default));
            }

            File.Delete(file);
            if (!isLock && !isCurrent && Run("mkfifo", file) is null)
            {
                Assert.Throws<KvCorruptionException>(() => store.Load("a", new KeptTarget(), null, default));
                File.Delete(file);
            }

            File.Move(moved, file);
        }

        string link = Path.Combine(_folder, "link");
        Directory.CreateSymbolicLink(link, StorePath);
        Assert.Equal("E005", Assert.Throws<KvPersistenceException>(() => new SnapshotStore(link).Load("a", new KeptTarget(), null, default)).Code);
        Assert.Null(store.Load("a", new KeptTarget(), null, default).Notice);
    }

    [Fact]
    public void A_full_disk_is_an_error_and_leaves_what_was_there()
    {
        string disk = Path.Combine(_folder, "tmpfs");
        Directory.CreateDirectory(disk);
        if (Run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk) is { } reason)
        {
            output.WriteLine($"skipped: no tmpfs can be mounted here: {reason}");
            return;
        }

        try
        {
            var store = new SnapshotStore(Path.Combine(disk, "store"), new SnapshotOptions { Workers = 2, BlockBytes = 32 << 10 });
            SnapshotSample small = SnapshotSample.Large(1, 4), big = SnapshotSample.Large(2, 60);
            store.Save("a", small.Content, small.Read);
            string[] before = Directory.GetFiles(store.StorePath);
            KvPersistenceException error = Assert.Throws<KvPersistenceException>(() => store.Save("a", big.Content, big.Read));
            Assert.Contains("ENOSPC", error.Message, StringComparison.Ordinal);
            Assert.Equal(before.Order(), Directory.GetFiles(store.StorePath).Order());
            var target = new KeptTarget();
            store.Load("a", target, null, default);
            Assert.Equal(small.Fingerprint, target.Fingerprint);
            FaultTally.Report(output, "full disk", 1, 1);
        }
        finally
        {
            Run("umount", disk);
        }
    }

    [Fact]
    public void A_failing_fsync_of_the_kernels_is_an_error_and_leaves_what_was_there()
    {
        if (Run("strace", "-e", "inject=fsync:error=EIO:when=1", "true") is { } reason)
        {
            output.WriteLine($"skipped: no strace that injects here: {reason}");
            return;
        }

        SnapshotSample sample = SnapshotSample.Create(500, 9);
        new SnapshotStore(StorePath).Save(SavingChild.Name, sample.Content, sample.Read);
        int fired = 0;
        for (int sync = 1; sync <= 5; sync++)
        {
            string before = SavingChild.Load(StorePath)!;
            string[] files = Directory.GetFiles(StorePath);
            using Process child = SavingChild.Start(StorePath, sync, 1, 9, "strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", $"inject=fsync:error=EIO:when={sync}");
            string said = child.StandardOutput.ReadToEnd();
            child.WaitForExit();
            bool isLast = said.StartsWith($"E005 {sync} unknown ", StringComparison.Ordinal);
            Assert.StartsWith($"E005 {sync} ", said, StringComparison.Ordinal);
            Assert.Equal(isLast ? SavingChild.Fingerprint(sync, 9) : before, SavingChild.Load(StorePath));
            Assert.Equal(isLast ? files.Length + 2 : files.Length, Directory.GetFiles(StorePath).Length);
            fired++;
        }

        FaultTally.Report(output, "fsync errors by strace", fired, 5);
    }

    [Fact]
    public void A_store_is_locked_for_others_only_while_it_saves()
    {
        SnapshotSample sample = SnapshotSample.Create(1);
        var store = new SnapshotStore(StorePath, SnapshotSample.Inline);
        var other = new SnapshotStore(StorePath, SnapshotSample.Inline);
        store.Save("a", sample.Content, (first, bytes) =>
        {
            Assert.Equal("E006", Assert.Throws<KvStoreBusyException>(() => other.Save("b", sample.Content, sample.Read)).Code);
            sample.Read(first, bytes);
        });
        other.Save("b", sample.Content, sample.Read);
    }

    private static UnixFileMode Mode(string path) => OperatingSystem.IsWindows() ? default : File.GetUnixFileMode(path);

    // Null where the program did its work, else what it said.
    private static string? Run(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true })!;
            string said = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? null : said.Trim();
        }
        catch (System.ComponentModel.Win32Exception error)
        {
            return error.Message;
        }
    }
}
