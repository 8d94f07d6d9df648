using System.Text;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Configuration.Tests;

/// <summary>A clock that goes on by a second at every look.</summary>
internal sealed class TickingClock : TimeProvider
{
    private DateTimeOffset _now = new(2026, 11, 24, 17, 0, 0, TimeSpan.Zero);

    public override DateTimeOffset GetUtcNow() => _now = _now.AddSeconds(1);
}

/// <summary>A configuration in a temporary folder of the real disk.</summary>
internal sealed class DiskProject : IDisposable
{
    public DiskProject(string file = "config/kv_cache.yaml", string env = ".env")
    {
        Root = Directory.CreateTempSubdirectory("kvcache-config-").FullName;
        Directory.CreateDirectory(Path.Combine(Root, "config"));
        Location = new KvConfigLocation(Root, file, env);
    }

    public string Root { get; }

    public KvConfigLocation Location { get; }

    public KvCacheConfigManager Manager(int keep = 20, params (string Name, string? Value)[] environment) =>
        new(Location, LibcFiles.Instance, new TickingClock(), keep, environment.ToDictionary(one => one.Name, one => one.Value));

    public string PathOf(string name) => Path.Combine(Root, name);

    public void Write(string name, string text) => File.WriteAllText(PathOf(name), text);

    public string Read(string name) => Encoding.UTF8.GetString(File.ReadAllBytes(PathOf(name)));

    public void Dispose() => Directory.Delete(Root, recursive: true);
}

/// <summary>A configuration on a disk in memory, whose operations can fail.</summary>
internal sealed class MemoryProject(MemoryDisk disk)
{
    public const string Root = "/app", File = "config/kv_cache.yaml", Env = ".env";

    public FaultFiles Files { get; } = new(disk);

    public KvCacheConfigManager Manager => field ??= new KvCacheConfigManager(
        new KvConfigLocation(Root, File, Env), Files, new TickingClock(), keep: 3, new Dictionary<string, string?>());

    /// <summary>A disk with these files, all of it durable.</summary>
    public static MemoryDisk Disk(string file, string env)
    {
        var disk = new MemoryDisk();
        disk.Make(Root);
        disk.Make(Root + "/config");
        Put(disk, Root + "/config", "kv_cache.yaml", file, 0x1A4);
        Put(disk, Root, Env, env, 0x1A0);
        return disk.Copy();
    }

    /// <summary>The bytes and modes of both files, as one text to compare.</summary>
    public static string Look(MemoryDisk disk) =>
        string.Join('|', new[] { disk.Find(Root + "/config")?.Find("kv_cache.yaml"), disk.Find(Root)?.Find(Env) }
            .Select(file => file is null ? "none" : $"{Convert.ToString(file.Mode, 8)} {Encoding.UTF8.GetString(file.ToArray())}"));

    private static void Put(MemoryDisk disk, string folder, string name, string text, int mode)
    {
        var file = new DiskFile { Mode = mode };
        file.Write(Encoding.UTF8.GetBytes(text), 0);
        disk.Find(folder)!.Set(name, file);
    }
}
