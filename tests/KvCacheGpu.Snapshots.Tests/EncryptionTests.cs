using System.Text;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>Encrypted snapshots: nothing readable on the disk, nothing opens in another place or with another key.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class EncryptionTests
{
    private static readonly SnapshotKey Key = SnapshotKey.FromBytes(new byte[32]);

    private readonly MemoryDisk _disk = new();

    private DiskDirectory Directory => _disk.Find(MemoryStore.Path)!;

    [Fact]
    public void Nothing_of_the_content_can_be_read_on_the_disk()
    {
        var store = new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key });
        SnapshotSample sample = SnapshotSample.Create(1);
        store.Save(new("secret-name", "secret-tenant"), sample);
        Assert.Equal(sample.Fingerprint, store.Load(new("secret-name", "secret-tenant")));
        byte[] page = new byte[sample.Content.BytesOf(0)];
        sample.Read(0, page);
        foreach (string name in Directory.Names)
        {
            byte[] bytes = Directory.Find(name)!.ToArray();
            foreach (byte[] secret in new[] { "secret-name", "secret-tenant", "chat-1", "title", "sha256:" }.Select(Encoding.UTF8.GetBytes).Append(page[..16]))
            {
                Assert.True(bytes.AsSpan().IndexOf(secret) < 0, name);
            }
        }

        Assert.True(store.Store.List(default).Single().IsEncrypted);
    }

    [Fact]
    public void Another_key_none_and_a_plain_file_are_refused_with_their_reason()
    {
        new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key }).Save("a", SnapshotSample.Create(1));
        byte[] other = new byte[32];
        other[31] = 1;
        Assert.Throws<KvCorruptionException>(() => new MemoryStore(_disk, SnapshotSample.Inline with { Key = SnapshotKey.FromBytes(other) }).Load("a"));
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => new MemoryStore(_disk).Load("a")).Code);
        Assert.Contains("E003", new MemoryStore(_disk).Store.List(default).Single().Notice, StringComparison.Ordinal);
        new MemoryStore(_disk).Save("plain", SnapshotSample.Create(2));
        Assert.Throws<KvConfigurationException>(() => new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key }).Load("plain"));
        Assert.NotNull(new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key, AcceptsPlain = true }).Load("plain"));
    }

    [Fact]
    public void The_same_content_is_never_stored_the_same_way_twice()
    {
        var store = new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key });
        store.Save("a", SnapshotSample.Create(1));
        store.Save("a", SnapshotSample.Create(1));
        byte[][] blocks = [.. Directory.Names.Where(name => name.Contains("BLOCKS", StringComparison.Ordinal)).Select(name => Directory.Find(name)!.ToArray())];
        Assert.Equal(2, blocks.Length);
        Assert.True(Enumerable.Range(64, blocks[0].Length - 64).Count(i => blocks[0][i] == blocks[1][i]) < blocks[0].Length / 50);
    }

    [Fact]
    public void Files_do_not_open_under_another_tenant_or_as_another_generation()
    {
        // The same salt, and so the same key, everywhere: only the associated data tells the places apart.
        var store = new MemoryStore(_disk, SnapshotSample.Inline with { Key = Key, FillRandom = bytes => bytes.AsSpan().Clear() });
        store.Save(new("a", "mine"), SnapshotSample.Create(1));
        store.Save(new("a", "theirs"), SnapshotSample.Create(1));
        string mine = StoreNames.Of(new SnapshotName("a", "mine")).Hash, theirs = StoreNames.Of(new SnapshotName("a", "theirs")).Hash;
        foreach (string name in Directory.Names.Where(name => name.StartsWith(mine, StringComparison.Ordinal)).ToArray())
        {
            Directory.Find(theirs + name[64..])!.Replace(Directory.Find(name)!.ToArray());
        }

        Assert.Throws<KvCorruptionException>(() => store.Load(new("a", "theirs")));
        Assert.NotNull(store.Load(new("a", "mine")));
    }

    [Fact]
    public void Keys_come_from_the_environment_or_a_file_that_only_its_owner_reads()
    {
        string folder = System.IO.Directory.CreateTempSubdirectory("kvcache-key-").FullName;
        try
        {
            string file = Path.Combine(folder, "key"), variable = "KVCACHE_TEST_KEY";
            Environment.SetEnvironmentVariable(variable, new string('0', 64));
            Assert.Equal(Key.Derive(new byte[16]), SnapshotKey.FromEnvironment(variable).Derive(new byte[16]));
            Environment.SetEnvironmentVariable(variable, "short");
            Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => SnapshotKey.FromEnvironment(variable)).Code);
            Environment.SetEnvironmentVariable(variable, null);
            Assert.Throws<KvSnapshotNotFoundException>(() => SnapshotKey.FromEnvironment(variable));
            File.WriteAllBytes(file, new byte[32]);
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
            Assert.Throws<KvConfigurationException>(() => SnapshotKey.FromFile(file));
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            Assert.Equal(Key.Derive(new byte[16]), SnapshotKey.FromFile(file).Derive(new byte[16]));
            File.WriteAllText(file, new string('0', 64) + "\n");
            Assert.Equal(Key.Derive(new byte[16]), SnapshotKey.FromFile(file).Derive(new byte[16]));
            File.CreateSymbolicLink(file + ".link", file);
            Assert.Throws<KvPersistenceException>(() => SnapshotKey.FromFile(file + ".link"));
            Assert.Throws<KvSnapshotNotFoundException>(() => SnapshotKey.FromFile(file + ".none"));
        }
        finally
        {
            System.IO.Directory.Delete(folder, true);
        }
    }
}
