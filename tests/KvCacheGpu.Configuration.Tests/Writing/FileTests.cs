using System.Runtime.Versioning;
using System.Text;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>A configuration's file is the old or the new one, whatever fails.</summary>
[SupportedOSPlatform("linux")]
public sealed class FileTests(ITestOutputHelper output) : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Permissions_stay_and_nothing_is_left_beside()
    {
        _folder.Write("c.yaml", "old");
        File.SetUnixFileMode(_folder["c.yaml"], UnixFileMode.UserRead | UnixFileMode.UserWrite);
        ConfigurationFile.Write(LibcFiles.Instance, _folder["c.yaml"], "new");
        Assert.Equal(("new", UnixFileMode.UserRead | UnixFileMode.UserWrite), (File.ReadAllText(_folder["c.yaml"]), File.GetUnixFileMode(_folder["c.yaml"])));
        Assert.Equal(["c.yaml"], Directory.EnumerateFileSystemEntries(_folder.Root).Select(Path.GetFileName));
    }

    [Fact]
    public void A_symbolic_link_in_the_files_place_is_refused()
    {
        _folder.Write("target", "old");
        File.CreateSymbolicLink(_folder["c.yaml"], _folder["target"]);
        Assert.Throws<KvPersistenceException>(() => ConfigurationFile.Write(LibcFiles.Instance, _folder["c.yaml"], "new"));
        Assert.Equal("old", File.ReadAllText(_folder["target"]));
    }

    [Fact]
    public void Any_operation_may_fail_and_any_power_loss_may_come()
    {
        int fired = 0, images = 0;
        Random random = new(7);
        foreach (Fault fault in Enum.GetValues<Fault>())
        {
            for (int failAt = 1; ; failAt++)
            {
                MemoryDisk disk = Disk();
                FaultFiles files = new(disk) { FailAt = failAt, Fault = fault };
                Exception? error = Record.Exception(() => ConfigurationFile.Write(files, "/app/c.yaml", "new"));
                Assert.True(error is null or KvCacheException, $"{fault} at {failAt}: {error}");
                Assert.Equal(0, files.OpenDescriptors);
                string after = Text(disk);
                bool isUnknown = error is KvPersistenceException { OutcomeUnknown: true };
                Assert.True(isUnknown ? after is "old" or "new" : after == (error is null ? "new" : "old"), $"{fault} at {failAt}: '{after}' after {error?.Message}");
                for (int i = 0; i < 20; i++, images++)
                {
                    string lost = Text(disk.AfterPowerLoss(random));
                    Assert.True(error is null ? lost == "new" : lost is "old" or "new", $"{fault} at {failAt}: '{lost}' after the power loss");
                }

                if (files.Fired == 0 && files.Operations < failAt)
                {
                    break;
                }

                fired += files.Fired;
            }
        }

        output.WriteLine($"{fired} faults fired, {images} images of a power loss");
        Assert.InRange(fired, 30, int.MaxValue);
    }

    [Fact]
    public void Other_names_are_refused_before_anything_is_written()
    {
        KvConfiguration configuration = KvConfiguration.Load(new KvConfigurationSources { Environment = Folder.NoVariables });
        Assert.Throws<KvConfigurationException>(() => configuration.Save(_folder["c.txt"]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Root));
    }

    private static MemoryDisk Disk()
    {
        MemoryDisk disk = new();
        disk.Make("/app");
        DiskFile file = new() { Mode = 0x1A4 };
        file.Write("old"u8, 0);
        disk.Find("/app")!.Set("c.yaml", file);
        return disk.Copy();
    }

    private static string Text(MemoryDisk disk) => Encoding.UTF8.GetString(disk.Find("/app")!.Find("c.yaml")!.ToArray());
}
